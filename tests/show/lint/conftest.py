"""Findings of a definition that is written in a test."""

from __future__ import annotations

import pytest

from caffepy.show.lint import check

INPUT = (
    'layer { name: "x" type: "Input" top: "x" top: "label" input_param { shape { dim: 4 dim: 6 } shape { dim: 4 } } }\n'
)
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 3 } }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'


@pytest.fixture
def found(tmp_path, monkeypatch):
    """`rule: level: where: text` of all that is found in a net (its layers behind an Input), or in a solver of one."""
    monkeypatch.chdir(tmp_path)

    def look(net: str, solver: str = "", remedies: bool = False, **options):
        (tmp_path / "net.prototxt").write_text(net)
        if solver:
            (tmp_path / "solver.prototxt").write_text('net: "net.prototxt"\n' + solver)
        (review,) = check(["solver.prototxt" if solver else "net.prototxt"], **options)
        lines = [f"{f.where}: {f.level}: {f.text} [{f.rule}]" for f in review.findings]
        return [f"{line}\n{f.remedy}" for line, f in zip(lines, review.findings)] if remedies else lines

    return look
