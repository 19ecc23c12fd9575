"""torchvision's and timm's models: classification, segmentation, detection, video."""

import torch

from .model import Model, floats, image


def _torchvision(name, make_inputs=None, family="", gain=None, **options):
    def make():
        import torchvision

        models = torchvision.models
        made = getattr(getattr(models, family) if family else models, name)
        return made(weights=None, **options)

    return Model("torchvision", make, make_inputs or image(), gain=gain)


def _segmentation(name, size, input_name="x"):
    options = {"family": "segmentation", "weights_backbone": None}
    return _torchvision(name, image(size, name=input_name), **options)


def _detection(name, size, **options):
    """`size`: images are resized to it inside the model. The options keep boxes of weights that
    were not trained."""
    if "320" not in name and "300" not in name:
        options |= {"min_size": size, "max_size": size}
    return _torchvision(
        name,
        lambda: {"images": [torch.rand(3, size, size)]},
        family="detection",
        weights_backbone=None,
        **options,
    )


def _clip(name, frames, size):
    return _torchvision(name, floats(x=(1, 3, frames, size, size)), family="video")


def _timm(name, size=224, **options):
    def make():
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return Model("timm", make, image(size))


TORCHVISION = {
    "resnet50": _torchvision("resnet50"),
    "densenet121": _torchvision("densenet121"),
    "googlenet": _torchvision("googlenet", init_weights=False),
    "inception_v3": _torchvision("inception_v3", image(299), init_weights=False),
    "squeezenet1_1": _torchvision("squeezenet1_1"),
    "shufflenet_v2_x1_0": _torchvision("shufflenet_v2_x1_0"),
    "mobilenet_v3_large": _torchvision("mobilenet_v3_large"),
    "efficientnet_b0": _torchvision("efficientnet_b0"),
    "regnet_y_400mf": _torchvision("regnet_y_400mf"),
    "convnext_tiny": _torchvision("convnext_tiny"),
    "vit_b_16": _torchvision("vit_b_16"),
    "swin_t": _torchvision("swin_t"),
    "swin_v2_t": _torchvision("swin_v2_t"),
    "maxvit_t": _torchvision("maxvit_t"),
    "deeplabv3_mobilenet_v3_large": _segmentation("deeplabv3_mobilenet_v3_large", 224),
    "lraspp_mobilenet_v3_large": _segmentation("lraspp_mobilenet_v3_large", 224, "input"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _detection(
        "fasterrcnn_mobilenet_v3_large_320_fpn", 320, box_score_thresh=0.015
    ),
    "maskrcnn_resnet50_fpn": _detection(
        "maskrcnn_resnet50_fpn", 192, box_score_thresh=0.015, box_detections_per_img=20
    ),
    "retinanet_resnet50_fpn": _detection(
        "retinanet_resnet50_fpn", 192, gain=0.8, score_thresh=0.01, detections_per_img=10
    ),
    "fcos_resnet50_fpn": _detection("fcos_resnet50_fpn", 192, score_thresh=0.01),
    "ssdlite320_mobilenet_v3_large": _detection("ssdlite320_mobilenet_v3_large", 320),
    "r3d_18": _clip("r3d_18", 8, 64),
    "s3d": _clip("s3d", 16, 224),
    "mvit_v2_s": _clip("mvit_v2_s", 16, 224),
}

TIMM = {
    "deit3_small_patch16_224": _timm("deit3_small_patch16_224"),
    "beit_base_patch16_224": _timm("beit_base_patch16_224", depth=4),
    "eva02_tiny_patch14_224": _timm("eva02_tiny_patch14_224"),
    "convnextv2_atto": _timm("convnextv2_atto"),
    "efficientformerv2_s0": _timm("efficientformerv2_s0"),
    "mobilevitv2_050": _timm("mobilevitv2_050", 256),
    "edgenext_xx_small": _timm("edgenext_xx_small", 256),
    "levit_128s": _timm("levit_128s"),
    "mixer_s32_224": _timm("mixer_s32_224"),
    "coatnet_nano_rw_224": _timm("coatnet_nano_rw_224"),
    "xcit_nano_12_p16_224": _timm("xcit_nano_12_p16_224"),
    "pvt_v2_b0": _timm("pvt_v2_b0"),
    "eca_nfnet_l0": _timm("eca_nfnet_l0", 224),
    "ghostnet_100": _timm("ghostnet_100"),
    "hrnet_w18_small": _timm("hrnet_w18_small"),
    "mambaout_femto": _timm("mambaout_femto"),
    "hiera_tiny_224": _timm("hiera_tiny_224"),
    "fastvit_t8": _timm("fastvit_t8", 256),
    "cait_xxs24_224": _timm("cait_xxs24_224"),
    "crossvit_9_240": _timm("crossvit_9_240", 240),
    "focalnet_tiny_srf": _timm("focalnet_tiny_srf"),
    "volo_d1_224": _timm("volo_d1_224"),
    "resnest14d": _timm("resnest14d"),
    "bat_resnext26ts": _timm("bat_resnext26ts", 256),
}
