"""python models/captioning/say.py FOLDER WEIGHTS: captions of the pictures of the test, and how many are right."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py

import caffepy
from caffepy.data.texts import vocabulary as vocabularies

MODEL = Path(__file__).with_name("deploy.prototxt")


def main(folder: str, weights: str, count: int = 1000) -> None:
    net = caffepy.Net(MODEL, caffepy.TEST, weights=weights)
    known = vocabularies.read(f"{folder}/vocabulary.json")
    right = []
    with h5py.File(f"{folder}/test.h5") as file:
        for image, following in zip(file["image"][:count], file["next"][:count]):
            net.blobs["image"].data[...] = image
            said = net.generate("", 10, vocabulary=known, temperature=0, stop="\n")
            shown = known.decode(following[following > 1])  # without the line break
            right.append(said == shown)
            if len(right) <= 5:
                print(f"{said}  (shown: {shown})")
    print(f"{sum(right)} of {len(right)} captions are right")


if __name__ == "__main__":
    main(*sys.argv[1:3])
