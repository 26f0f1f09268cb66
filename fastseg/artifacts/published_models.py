"""Published models whose weights fastseg does not ship: files, hashes, licences and pages."""

from __future__ import annotations

from fastseg.artifacts.model_card import ModelCard, PublishedCheckpoint

_SAM_PAGE = "https://github.com/facebookresearch/segment-anything"
_APACHE = "Apache-2.0"

_SAM2 = (
    (
        "2.1",
        "tiny",
        156_008_466,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    (
        "2.1",
        "small",
        184_416_285,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    (
        "2.1",
        "base_plus",
        323_606_802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    (
        "2.1",
        "large",
        898_083_611,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    ),
    ("2", "tiny", 155_906_050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    ("2", "small", 184_309_650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    ("2", "base_plus", None, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    ("2", "large", 897_952_466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
)
"""Version, size, bytes and sha256 of the published files of SAM 2."""


_SAM_HQ = (
    ("vit-b", "ViT-B", None),
    ("vit-l", "ViT-L", None),
    (
        "vit-h",
        "ViT-H",
        PublishedCheckpoint(
            "sam_hq_vit_h.pth",
            2_570_940_653,
            "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35",
        ),
    ),
    (
        "light",
        "TinyViT",
        PublishedCheckpoint(
            "sam_hq_vit_tiny.pth",
            None,
            "0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196",
        ),
    ),
)
"""Sizes of SAM-HQ; the hashes of two files are not known."""


def _sam_hq(size: str, encoder: str, checkpoint: PublishedCheckpoint | None) -> ModelCard:
    return ModelCard(
        f"sam-hq-{size}",
        family="sam",
        exportable=True,
        preparation="sam-hq",
        description=f"SAM-HQ, {encoder}, masks with finer edges (Ke et al. 2023)",
        licence=_APACHE,
        page="https://github.com/SysCV/sam-hq",
        checkpoint=checkpoint,
    )


def _sam2(version: str, size: str, length: int | None, sha256: str) -> ModelCard:
    return ModelCard(
        f"sam{version}-hiera-{size.replace('_', '-')}",
        family="sam",
        exportable=True,
        preparation="sam2",
        modality="photographs and videos",
        description=f"SAM {version}, Hiera {size.replace('_', '-')}, for images (Ravi et al. 2024)",
        licence=_APACHE,
        page="https://github.com/facebookresearch/sam2",
        checkpoint=PublishedCheckpoint(f"sam{version}_hiera_{size}.pt", length, sha256),
    )


_EFFICIENTVIT = (
    ("l0", "c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8"),
    ("l1", "fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b"),
    ("l2", "d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a"),
    ("xl0", "9bc2f87bd23d6e6d1f7b5beff910f98835c7c333fac73e695bac0bec685968f8"),
    ("xl1", "10f42277679427c1183dcff19758e536aa86bcc4304e4b387ff48865784be05c"),
)
"""Size and sha256 of the published files of EfficientViT-SAM."""


_RITM = (
    ("ritm-coco-lvis-h18s", "HRNet-W18s", "COCO and LVIS"),
    ("ritm-coco-lvis-h18", "HRNet-W18", "COCO and LVIS"),
    ("ritm-sbd-h18", "HRNet-W18", "SBD"),
    ("ritm-coco-lvis-h32", "HRNet-W32", "COCO and LVIS"),
)
"""Name, trunk and training images of the published iterative-mask networks."""


def _ritm(name: str, trunk: str, images: str) -> ModelCard:
    return ModelCard(
        name,
        family="ritm",
        exportable=True,
        preparation="ritm",
        prompts="points",
        description=f"RITM with the previous mask, {trunk}, of {images} (Sofiiuk et al. 2021)",
        licence="MIT",
        page="https://github.com/SamsungLabs/ritm_interactive_segmentation",
    )


def _efficientvit_sam(size: str, sha256: str) -> ModelCard:
    return ModelCard(
        f"efficientvit-sam-{size}",
        family="sam",
        exportable=True,
        preparation="sam" if size.startswith("x") else "efficientvit-sam",
        description=f"EfficientViT-SAM {size.upper()} (Zhang et al. 2024)",
        licence="Apache-2.0, that of its project",
        page="https://github.com/mit-han-lab/efficientvit",
        checkpoint=PublishedCheckpoint(f"efficientvit_sam_{size}.pt", None, sha256),
    )


_EFFICIENT_SAM = (
    ModelCard(
        "efficient-sam-ti",
        family="sam",
        exportable=True,
        preparation="efficient-sam",
        prompts="points, boxes",
        description="EfficientSAM Ti (Xiong et al. 2024)",
        licence=_APACHE,
        page="https://github.com/yformer/EfficientSAM",
        checkpoint=PublishedCheckpoint(
            "efficient_sam_vitt.pt",
            40_982_470,
            "dff858b19600a46461cbb7de98f796b23a7a888d9f5e34c0b033f7d6eb9e4e6a",
        ),
    ),
    ModelCard(
        "efficient-sam-s",
        family="sam",
        exportable=True,
        preparation="efficient-sam",
        prompts="points, boxes",
        description="EfficientSAM S (Xiong et al. 2024)",
        licence=_APACHE,
        page="https://github.com/yformer/EfficientSAM",
    ),
)

KNOWN = (
    ModelCard(
        "sam-vit-b",
        family="sam",
        description="Segment Anything, ViT-B image encoder (Kirillov et al. 2023)",
        licence=_APACHE,
        exportable=True,
        page=_SAM_PAGE,
        checkpoint=PublishedCheckpoint(
            "sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
    ),
    ModelCard(
        "sam-vit-l",
        family="sam",
        description="Segment Anything, ViT-L image encoder (Kirillov et al. 2023)",
        licence=_APACHE,
        exportable=True,
        page=_SAM_PAGE,
        checkpoint=PublishedCheckpoint(
            "sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
    ),
    ModelCard(
        "sam-vit-h",
        family="sam",
        description="Segment Anything, ViT-H image encoder (Kirillov et al. 2023)",
        licence=_APACHE,
        exportable=True,
        page=_SAM_PAGE,
        checkpoint=PublishedCheckpoint(
            "sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    ),
    ModelCard(
        "mobile-sam",
        family="sam",
        exportable=True,
        description="MobileSAM, TinyViT image encoder (Zhang et al. 2023)",
        licence=_APACHE,
        page="https://github.com/ChaoningZhang/MobileSAM",
        checkpoint=PublishedCheckpoint(
            "mobile_sam.pt",
            40_728_226,
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        ),
    ),
    ModelCard(
        "medsam",
        family="sam",
        exportable=True,
        preparation="medsam",
        prompts="boxes",
        modality="medical images",
        description="MedSAM, ViT-B fine-tuned on medical images, for boxes (Ma et al. 2024)",
        licence=_APACHE,
        page="https://github.com/bowang-lab/MedSAM",
        checkpoint=PublishedCheckpoint(
            "medsam_vit_b.pth",
            375_049_145,
            "34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
        ),
    ),
    ModelCard(
        "lite-medsam",
        family="sam",
        exportable=True,
        preparation="lite-medsam",
        prompts="boxes",
        modality="medical images",
        description="LiteMedSAM, TinyViT at 256 pixels, for boxes (Ma et al. 2024)",
        licence=_APACHE,
        page="https://github.com/bowang-lab/MedSAM",
    ),
    *(_sam2(*facts) for facts in _SAM2),
    *(_sam_hq(*facts) for facts in _SAM_HQ),
    ModelCard(
        "sam-med2d",
        family="sam",
        exportable=True,
        preparation="sam-med2d",
        modality="medical images",
        description="SAM-Med2D, ViT-B at 256 pixels with adapters (Cheng et al. 2023)",
        licence=_APACHE,
        page="https://github.com/OpenGVLab/SAM-Med2D",
    ),
    ModelCard(
        "sam-adapter",
        family="sam",
        exportable=True,
        preparation="sam-adapter",
        prompts="no prompt",
        modality="those of its tuning",
        description="SAM-Adapter, SAM tuned for one task (Chen et al. 2023); weights of your own",
        licence="that of the file",
        page="https://github.com/tianrun-chen/SAM-Adapter-PyTorch",
    ),
    *(_efficientvit_sam(*facts) for facts in _EFFICIENTVIT),
    *_EFFICIENT_SAM,
    ModelCard(
        "edge-sam",
        family="sam",
        exportable=True,
        description="EdgeSAM, RepViT image encoder (Zhou et al. 2023)",
        licence="S-Lab License 1.0, non-commercial",
        page="https://github.com/chongzhou96/EdgeSAM",
        checkpoint=PublishedCheckpoint(
            "edge_sam_3x.pth",
            None,
            "5a3e3261da9e2f4c8154410885689ae57d09cbf4cf5d0c848b9d80b6df336ece",
        ),
    ),
    *(_ritm(*facts) for facts in _RITM),
)
"""Published models whose weights fastseg knows by hash and does not ship."""
