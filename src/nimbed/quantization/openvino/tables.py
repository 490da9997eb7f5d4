"""Embedding tables: which are quantized, and how int8 ones stay int8 in memory."""

from __future__ import annotations

from nimbed.backends.openvino_api import op, ov


def small_tables(network: ov.Model) -> list[str]:
    """Names of the lookups in all embedding tables but the largest.

    Those of positions and token types are small, and every token adds their rounding: they stay fp32.
    """
    lookups = [o for o in network.get_ops() if o.get_type_name() == "Gather" and _rows(o)]
    largest = max(map(_rows, lookups), default=0)
    return [lookup.get_friendly_name() for lookup in lookups if _rows(lookup) < largest]


def _rows(lookup: ov.Node) -> int:
    """Rows of the constant table ``[rows, hidden]`` that is looked up, or 0."""
    node = lookup.input_value(0).get_node()
    if node.get_type_name() == "Convert":  # stored as fp16
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or len(node.get_output_shape(0)) != 2:
        return 0
    rows: int = node.get_output_shape(0)[0]
    return rows


def look_up_before_scaling(network: ov.Model) -> None:
    """Take rows of an int8 table first and scale them afterwards, in place.

    NNCF writes ``gather(int8 * scale, ids)``, which OpenVINO folds into an fp32 table: four times the memory, and once
    more for each compiled graph. ``gather(int8, ids) * gather(scale, ids)`` is the same and stays as it is.
    """
    for lookup in network.get_ordered_ops():
        if lookup.get_type_name() != "Gather" or (parts := _int8_table(lookup.input_value(0).get_node())) is None:
            continue
        table, scale = parts
        ids, axis = lookup.input_value(1), lookup.input_value(2)
        rows = op.multiply(op.convert(op.gather(table, ids, axis), "f32"), op.gather(scale, ids, axis))
        for reader in list(lookup.output(0).get_target_inputs()):
            reader.replace_source_output(rows.output(0))
    network.validate_nodes_and_infer_types()


def _int8_table(node: ov.Node) -> tuple[ov.Output, ov.Output] | None:
    """The int8 rows ``[rows, hidden]`` and their scales ``[rows, 1]``, where the node multiplies the two."""
    if node.get_type_name() != "Multiply" or node.input_value(0).get_node().get_type_name() != "Convert":
        return None
    table, scale = node.input_value(0).get_node().input_value(0), node.input_value(1)
    if not all(o.get_node().get_type_name() == "Constant" and len(o.get_shape()) == 2 for o in (table, scale)):
        return None
    if table.get_element_type() != ov.Type.i8 or scale.get_shape() != [table.get_shape()[0], 1]:
        return None
    return table, scale
