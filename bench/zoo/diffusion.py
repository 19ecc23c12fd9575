"""diffusers' models at small sizes: denoisers and autoencoders."""

import torch

from .model import Model, floats, joined


def _diffusers(name, make_inputs, gain=None, **sizes):
    def make():
        import diffusers

        return getattr(diffusers, name)(**sizes)

    return Model("diffusers", make, make_inputs, gain=gain)


def _step(latent, text=None, **others):
    """A step of denoising: a latent, its time, perhaps a text."""

    def make():
        inputs = {"timestep": torch.tensor([501])}
        for name, shape in ({"encoder_hidden_states": text} if text else {}).items():
            inputs[name] = torch.randn(shape)
        return inputs | {name: make() for name, make in others.items()}

    return joined(latent, make)


_UNET = {
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "norm_num_groups": 16,
}
_VAE = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "norm_num_groups": 16,
}

DIFFUSERS = {
    "unet_condition": _diffusers(
        "UNet2DConditionModel",
        _step(floats(sample=(2, 4, 32, 32)), (2, 77, 256)),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=256,
        attention_head_dim=8,
        **_UNET,
    ),
    "unet_unconditional": _diffusers(
        "UNet2DModel",
        _step(floats(sample=(1, 3, 32, 32))),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        **_UNET,
    ),
    "unet_video": _diffusers(
        "UNet3DConditionModel",
        _step(floats(sample=(1, 4, 4, 16, 16)), (1, 16, 64)),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=64,
        attention_head_dim=8,
        **_UNET,
    ),
    "vae": _diffusers("AutoencoderKL", floats(sample=(1, 3, 64, 64)), **_VAE),
    "vae_tiny": _diffusers("AutoencoderTiny", floats(sample=(1, 3, 64, 64)), gain=1.0),
    "vae_dc": _diffusers(
        "AutoencoderDC",
        floats(sample=(1, 3, 64, 64)),
        encoder_block_out_channels=(32, 64, 64),
        decoder_block_out_channels=(32, 64, 64),
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        attention_head_dim=16,
    ),
    "dit": _diffusers(
        "DiTTransformer2DModel",
        joined(
            floats(hidden_states=(1, 4, 32, 32)),
            lambda: {"timestep": torch.tensor([501]), "class_labels": torch.tensor([7])},
        ),
        num_attention_heads=6,
        attention_head_dim=64,
        num_layers=4,
        sample_size=32,
    ),
    "pixart": _diffusers(
        "PixArtTransformer2DModel",
        _step(
            floats(hidden_states=(1, 4, 32, 32)),
            (1, 20, 128),
            added_cond_kwargs=lambda: {"resolution": None, "aspect_ratio": None},
        ),
        num_attention_heads=6,
        attention_head_dim=64,
        num_layers=4,
        sample_size=32,
        cross_attention_dim=384,
        caption_channels=128,
        use_additional_conditions=False,
    ),
    "sd3": _diffusers(
        "SD3Transformer2DModel",
        _step(floats(hidden_states=(1, 4, 32, 32), pooled_projections=(1, 64)), (1, 20, 128)),
        sample_size=32,
        in_channels=4,
        num_layers=3,
        attention_head_dim=64,
        num_attention_heads=6,
        joint_attention_dim=128,
        caption_projection_dim=384,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=64,
    ),
    "flux": _diffusers(
        "FluxTransformer2DModel",
        lambda: {
            "hidden_states": torch.randn(1, 64, 64),
            "encoder_hidden_states": torch.randn(1, 20, 128),
            "pooled_projections": torch.randn(1, 64),
            "timestep": torch.tensor([0.5]),
            "guidance": torch.tensor([3.5]),
            "img_ids": torch.stack(
                torch.meshgrid(torch.zeros(1), torch.arange(8.0), torch.arange(8.0), indexing="ij"),
                -1,
            ).reshape(64, 3),
            "txt_ids": torch.zeros(20, 3),
        },
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    ),
    "sana": _diffusers(
        "SanaTransformer2DModel",
        _step(floats(hidden_states=(1, 8, 16, 16)), (1, 20, 128)),
        in_channels=8,
        out_channels=8,
        num_attention_heads=8,
        attention_head_dim=32,
        num_layers=3,
        num_cross_attention_heads=4,
        cross_attention_head_dim=64,
        cross_attention_dim=256,
        caption_channels=128,
        sample_size=16,
    ),
    "wan": _diffusers(
        "WanTransformer3DModel",
        _step(floats(hidden_states=(1, 4, 2, 16, 16)), (1, 20, 128)),
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        text_dim=128,
        freq_dim=64,
        ffn_dim=512,
        num_layers=2,
    ),
}
