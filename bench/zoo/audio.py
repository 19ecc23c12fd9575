"""torchaudio's models."""

import sys
from pathlib import Path
from unittest import mock

import torch

from .model import Model, floats, joined


def _torchaudio(name, make_inputs, gain=None, **options):
    def make():
        return getattr(import_torchaudio().models, name)(**options)

    return Model("torchaudio", make, make_inputs, gain=gain)


# Where tools/install_python.sh puts it.
FOLDER = Path(sys.prefix) / "torchaudio"


def import_torchaudio():
    """torchaudio, whose last release refuses the CUDA version of newer PyTorch; its libraries are
    not used here. Before transformers, which imports it, too."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    with mock.patch.object(torch.version, "cuda", None):
        import torchaudio
    return torchaudio


def _lengths(*lengths, name="lengths"):
    return lambda: {name: torch.tensor(lengths)}


TORCHAUDIO = {
    "wav2vec2_base": _torchaudio(
        "wav2vec2_model",
        floats(waveforms=(1, 16000)),
        extractor_mode="group_norm",
        extractor_conv_layer_config=None,
        extractor_conv_bias=False,
        encoder_embed_dim=768,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=128,
        encoder_pos_conv_groups=16,
        encoder_num_layers=4,
        encoder_num_heads=12,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=3072,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.1,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=32,
    ),
    "conformer": _torchaudio(
        "Conformer",
        joined(floats(input=(2, 100, 80)), _lengths(100, 80)),
        input_dim=80,
        num_heads=4,
        ffn_dim=256,
        num_layers=4,
        depthwise_conv_kernel_size=31,
    ),
    "emformer": _torchaudio(
        "Emformer",
        joined(floats(input=(1, 68, 256)), _lengths(68)),
        input_dim=256,
        num_heads=4,
        ffn_dim=512,
        num_layers=4,
        segment_length=16,
        right_context_length=4,
    ),
    "conv_tasnet_base": _torchaudio("conv_tasnet_base", floats(input=(1, 1, 8000))),
    "deepspeech": _torchaudio(
        "DeepSpeech", floats(x=(1, 1, 100, 80)), gain=1.4, n_feature=80, n_hidden=512
    ),
    "wav2letter": _torchaudio(
        "Wav2Letter", floats(x=(1, 80, 200)), gain=1.4, input_type="mfcc", num_features=80
    ),
    "wavernn": _torchaudio(
        "WaveRNN",
        floats(waveform=(1, 1, 450), specgram=(1, 1, 128, 10)),
        upsample_scales=[5, 5, 3],
        n_classes=256,
        hop_length=75,
        n_rnn=256,
        n_fc=256,
    ),
    "hdemucs_low": _torchaudio(
        "hdemucs_low", floats(input=(1, 2, 16384)), sources=["drums", "bass", "other", "vocals"]
    ),
    "squim_objective_base": _torchaudio("squim_objective_base", floats(x=(1, 8000)), gain=1.4),
}
