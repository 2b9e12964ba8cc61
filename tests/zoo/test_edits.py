"""Definitions changed as text."""

from __future__ import annotations

from caffepy.zoo import edits

NET = """# A net.
name: "net"
layer { name: "a" type: "InnerProduct" inner_product_param { num_output: 3 } }  # one line
layer {
  name: "b"
  type: "ReLU"
}
"""


def test_blocks_are_the_layers_with_what_follows():
    head, blocks = edits.blocks(NET)
    assert head == '# A net.\nname: "net"\n'
    assert [block.layer.name for block in blocks] == ["a", "b"]
    assert head + "".join(block.text for block in blocks) == NET


def test_a_layer_is_changed_and_the_rest_stays():
    changed = edits.edit(NET, lambda block: edits.put(block.text, "num_output", "7"))
    assert changed == NET.replace("num_output: 3", "num_output: 7")


def test_values_and_messages():
    part = 'layer {\n  param { lr_mult: 1 }\n  param { lr_mult: 2 }\n  data_param { source: "a b" backend: LMDB }\n}\n'
    assert edits.put(part, "source", '"c"').count('"c"') == 1
    assert "LMDB" not in edits.without_fields(part, "backend")
    assert edits.without_messages(part, "param") == 'layer {\n  data_param { source: "a b" backend: LMDB }\n}\n'
    assert edits.with_lines("layer { }\n", ["x: 1"]) == "layer {\n  x: 1\n}\n"
    assert edits.quoted('a"b\\') == '"a\\"b\\\\"'


def test_a_solver_gets_fields():
    solver = 'net: "a"  # base_lr: 9\nbase_lr: 0.1\n'
    assert edits.lines_put("# base_lr: 3\nmax_iter: 1", {"base_lr": "1"}) == "# base_lr: 3\nmax_iter: 1\nbase_lr: 1\n"
    assert edits.lines_put("max_iter: 1\n", {"max_iter": "2"}) == "max_iter: 2\n"
    assert edits.without_comments("# x\nnet: 1 # y\n") == "net: 1 # y\n"
    assert edits.put(solver, "net", '"b"', count=1).startswith('net: "b"')
