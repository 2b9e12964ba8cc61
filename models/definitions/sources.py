"""Layers that read data, as text."""

from __future__ import annotations

MEANS = "mean_value: 104 mean_value: 117 mean_value: 123"
ILSVRC = ("examples/imagenet/ilsvrc12_train_lmdb", "examples/imagenet/ilsvrc12_val_lmdb")


def layer(kind: str, phase: str, tops: tuple[str, ...], transform: str, settings: str, name: str = "data") -> str:
    lines = [f'name: "{name}"', f'type: "{kind}"', *(f'top: "{top}"' for top in tops), f"include {{ phase: {phase} }}"]
    lines += [f"transform_param {{ {transform} }}"] if transform else []
    return "layer {\n" + "".join(f"  {line}\n" for line in [*lines, settings]) + "}\n"


def pair(kind: str, tops: tuple[str, ...], train: tuple[str, str], test: tuple[str, str]) -> str:
    """Transform and settings to train and to test."""
    return layer(kind, "TRAIN", tops, *train) + layer(kind, "TEST", tops, *test)


def database(source: str, batch: int) -> str:
    return f'data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }}'


def imagenet(crop: int, train: int, test: int, scale: str = "") -> str:
    transform = f"crop_size: {crop} {MEANS}" + (f" scale: {scale}" if scale else "")
    settings = [database(source, batch) for source, batch in zip(ILSVRC, (train, test))]
    return pair("Data", ("data", "label"), (f"mirror: true {transform}", settings[0]), (transform, settings[1]))


def lists(kind: str, train: str, test: str, batches: tuple[int, int], transform: str, pixels: str = "") -> str:
    """Lists of pictures and of masks."""
    settings = [
        f'image_data_param {{ source: "{source}" batch_size: {batch}{more}{pixels} }}'
        for source, batch, more in zip((train, test), batches, (" shuffle: true", ""))
    ]
    mirrored = f"mirror: true {transform}".strip()
    return pair(kind, ("data", "label"), (mirrored, settings[0]), (transform, settings[1]))


def boxes(train: str, test: str, batches: tuple[int, int], size: int, means: str, more: str = "") -> str:
    """Pictures with objects as SSD sees them: distorted, zoomed out, cut, resized and mirrored to train."""
    resize = f"resize_param {{ prob: 1 resize_mode: WARP height: {size} width: {size} interp_mode: LINEAR }}"
    change = (
        "mirror: true "
        "distort_param { brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 "
        "contrast_upper: 1.5 hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 "
        "saturation_upper: 1.5 } expand_param { prob: 0.5 max_expand_ratio: 4 } emit_constraint { emit_type: CENTER }"
    )
    samplers = "batch_sampler { max_sample: 1 max_trials: 1 }" + "".join(
        " batch_sampler { sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } "
        f"sample_constraint {{ {constraint} }} max_sample: 1 max_trials: 50 }}"
        for constraint in (
            *(f"min_jaccard_overlap: {overlap}" for overlap in (0.1, 0.3, 0.5, 0.7, 0.9)), "max_jaccard_overlap: 1",
        )
    )  # fmt: skip
    settings = [database(source, batch) for source, batch in zip((train, test), batches)]
    annotated = f"{settings[0]}\n  annotated_data_param {{ {samplers} }}"
    end = f"{means}{more} {resize}"
    return pair("AnnotatedData", ("data", "label"), (f"{change} {end}", annotated), (end, settings[1]))
