"""transformers' models: encoders, decoders with and without a cache, vision, speech."""

import torch

from .model import Model, floats, image, joined, tokens


def _make(architecture, config, **sizes):
    def make():
        import transformers

        return getattr(transformers, architecture)(getattr(transformers, config)(**sizes))

    return make


def _model(name, inputs, head="Model", config="Config", gain=None, **sizes):
    """transformers' NameConfig(**sizes) and NameModel."""
    return Model("transformers", _make(name + head, name + config, **sizes), inputs, gain=gain)


def _decoder(name, **sizes):
    sizes = {**DECODER, **sizes}
    return _model(name, tokens(sizes["vocab_size"], 64), "ForCausalLM", **sizes)


class Generate(torch.nn.Module):
    """Greedy decoding with transformers' static cache: the prompt, then a token at a time."""

    def __init__(self, model, steps):
        super().__init__()
        self.model, self.steps = model, steps

    def forward(self, **inputs):
        made = self.model.generate(
            **inputs,
            max_new_tokens=self.steps,
            min_new_tokens=self.steps,
            do_sample=False,
            cache_implementation="static",
            return_dict_in_generate=True,
            output_logits=True,
        )
        return [made.sequences, *made.logits]


def _generate(model, inputs, steps=6):
    return Model("transformers", lambda: Generate(model.make(), steps), inputs, part="model")


DECODER = {
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "use_cache": False,
    "pad_token_id": 0,
}
PLAIN_DECODER = {name: n for name, n in DECODER.items() if name != "num_key_value_heads"}
CACHED = DECODER | {"use_cache": True, "num_hidden_layers": 2}


def _plain_decoder(name, **sizes):
    return _model(name, tokens(4096, 64), "ForCausalLM", **PLAIN_DECODER | sizes)


def _small_generate(name, **sizes):
    model = _model(name, None, "ForCausalLM", **CACHED | sizes)
    return _generate(model, tokens(4096, 17))


def _with_mask(length=128, used=100):
    """A text that fills the first tokens alone."""
    return lambda: {"attention_mask": (torch.arange(length) < used).long()[None]}


ENCODERS = {
    "bert_base": _model("Bert", tokens(30522)),
    "distilbert": _model("DistilBert", joined(tokens(30522), _with_mask())),
    "roberta": _model("Roberta", tokens(50265), num_hidden_layers=4),
    "electra_small": _model("Electra", joined(tokens(30522), _with_mask())),
    "deberta_v2": _model(
        "DebertaV2",
        tokens(30000),
        vocab_size=30000,
        hidden_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=1536,
        relative_attention=True,
        position_buckets=64,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
    ),
    "modernbert": _model("ModernBert", joined(tokens(50000), _with_mask()), num_hidden_layers=6),
    "xlnet": _model("XLNet", tokens(30000), d_model=256, n_layer=4, n_head=4, d_inner=1024),
    "esm2": _model(
        "Esm",
        joined(tokens(32), _with_mask()),
        vocab_size=33,
        hidden_size=320,
        num_hidden_layers=6,
        num_attention_heads=20,
        intermediate_size=1280,
        pad_token_id=1,
        position_embedding_type="rotary",
        token_dropout=True,
        mask_token_id=2,
    ),
    "fnet": _model("FNet", tokens(30000, 64), num_hidden_layers=4),
    "longformer": _model(
        "Longformer",
        tokens(30000),
        vocab_size=30000,
        num_hidden_layers=2,
        hidden_size=256,
        num_attention_heads=4,
        intermediate_size=1024,
        attention_window=[32, 32],
    ),
    "t5_small": _model(
        "T5",
        joined(tokens(32000, 64), tokens(32000, 32, name="decoder_input_ids")),
        use_cache=False,
    ),
    "bart_base": _model(
        "Bart",
        tokens(50000, 64),
        d_model=768,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
        use_cache=False,
        encoder_ffn_dim=3072,
        decoder_ffn_dim=3072,
    ),
    "clip": _model("CLIP", joined(tokens(49000, 77), image(name="pixel_values"))),
}

DECODERS = {
    "gpt2": _model("GPT2", tokens(50257), "LMHeadModel", use_cache=False),
    "llama": _decoder("Llama"),
    "mistral": _decoder("Mistral", sliding_window=16),
    "qwen3": _decoder("Qwen3", head_dim=64),
    "gemma2": _decoder("Gemma2", head_dim=64, sliding_window=16),
    "gemma3": _decoder("Gemma3", config="TextConfig", head_dim=64, sliding_window=16),
    "phi3": _decoder("Phi3", pad_token_id=0, bos_token_id=1, eos_token_id=2),
    "gpt_neox": _plain_decoder("GPTNeoX"),
    "opt": _model(
        "OPT",
        tokens(4096, 64),
        "ForCausalLM",
        vocab_size=4096,
        hidden_size=512,
        ffn_dim=2048,
        num_hidden_layers=4,
        num_attention_heads=8,
        word_embed_proj_dim=512,
        use_cache=False,
    ),
    "bloom": _model(
        "Bloom",
        tokens(4096, 64),
        "ForCausalLM",
        vocab_size=4096,
        hidden_size=512,
        n_layer=4,
        n_head=8,
        use_cache=False,
    ),
    "mixtral": _decoder("Mixtral", num_local_experts=4, num_hidden_layers=2),
    "mamba": _model(
        "Mamba",
        tokens(4096, 64),
        "ForCausalLM",
        vocab_size=4096,
        hidden_size=256,
        num_hidden_layers=4,
        use_cache=False,
    ),
    "gpt2_generate": _generate(
        _model("GPT2", None, "LMHeadModel", n_layer=4, n_embd=512, n_head=8, vocab_size=4096),
        tokens(4096, 17),
    ),
    "llama_generate": _small_generate("Llama"),
    "qwen3_generate": _small_generate("Qwen3", head_dim=64),
    "gemma3_generate": _small_generate(
        "Gemma3", config="TextConfig", head_dim=64, sliding_window=12
    ),
    "t5_generate": _generate(
        _model(
            "T5",
            None,
            "ForConditionalGeneration",
            num_layers=2,
            num_decoder_layers=2,
            d_model=256,
            d_ff=1024,
            decoder_start_token_id=0,
        ),
        tokens(32000, 17),
    ),
}

VISION = {
    "dinov2": _model("Dinov2", image(name="pixel_values"), num_hidden_layers=4),
    "segformer_b0": _model("Segformer", image(name="pixel_values"), "ForSemanticSegmentation"),
    "detr_resnet50": _model(
        "Detr",
        image(name="pixel_values"),
        "ForObjectDetection",
        gain=1.4,
        use_timm_backbone=True,
        backbone="resnet50",
        use_pretrained_backbone=False,
        encoder_layers=2,
        decoder_layers=2,
    ),
    "dpt": _model(
        "DPT",
        image(name="pixel_values"),
        "ForDepthEstimation",
        gain=1.4,
        image_size=224,
        num_hidden_layers=4,
        backbone_out_indices=[0, 1, 2, 3],
    ),
    "videomae": _model(
        "VideoMAE",
        lambda: {"pixel_values": torch.randn(1, 4, 3, 112, 112)},
        image_size=112,
        num_frames=4,
        num_hidden_layers=4,
    ),
    "sam_mask_decoder": _model(
        "Sam",
        lambda: {
            "pixel_values": torch.randn(1, 3, 256, 256),
            "input_points": torch.rand(1, 1, 2, 2) * 256,
        },
        vision_config={
            "image_size": 256,
            "hidden_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "global_attn_indexes": [1, 3],
            "window_size": 7,
        },
        prompt_encoder_config={"image_size": 256, "image_embedding_size": 16},
    ),
}

SPEECH = {
    "wav2vec2_ctc": _model(
        "Wav2Vec2", floats(input_values=(1, 16000)), "ForCTC", num_hidden_layers=4
    ),
    "wavlm": _model("WavLM", floats(input_values=(1, 16000)), num_hidden_layers=4),
    "whisper_tiny": _model(
        "Whisper",
        joined(floats(input_features=(1, 80, 3000)), tokens(50000, 16, name="decoder_input_ids")),
        use_cache=False,
    ),
    "seamless_speech": _model(
        "Wav2Vec2Bert", floats(input_features=(1, 100, 160)), num_hidden_layers=4, hidden_size=512
    ),
}

TRANSFORMERS = ENCODERS | DECODERS | VISION | SPEECH
