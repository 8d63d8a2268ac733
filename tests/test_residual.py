"""The shipped residual network: its hardware gives the integers of the golden model, as fast as planned."""

from __future__ import annotations

import numpy as np
import pytest
from float_models import random_branches, read

from fewbit import arrays, models
from fewbit.engines import run_golden, run_rtl
from fewbit.generator import design
from fewbit.golden.codes import Code
from fewbit.golden.network import Add, Join
from fewbit.hw.chain import timing
from fewbit.hw.planner.constraints import Constraints
from fewbit.quantization.quantize import quantize
from fewbit.quantization.recipe import Recipe
from fewbit.readers import load

NAME = "fashion-resnet"


@pytest.fixture(scope="module")
def planned():
    return design(load(models.shipped()[NAME]), "ecp5-85k")


def test_it_has_three_blocks_whose_connections_are_buffered_exactly(planned):
    network, folding = planned.plan.network, planned.plan.folding
    joins = [layer for layer in network.layers if isinstance(layer, Join)]
    assert [type(layer) for layer in joins] == [Add] * 3
    depths = [folding.folds[layer.name].depths for layer in joins]
    assert all(sides.count(0) == 1 for sides in depths)  # one side of each waits for nothing
    assert planned.plan.cycles_per_frame == timing(network, folding).interval
    assert planned.plan.cost.within(planned.plan.target.capacity)


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True])
def test_rtl_is_golden_on_200_test_images(quantized, tmp_path):
    """A smaller design than that for the board, which a compiler optimizes in a minute."""
    planned = design(load(models.shipped()[NAME]), "ecp5-85k", Constraints(max_cells=6000))
    images = arrays.read(models.test_set(NAME)[0])[:200].reshape(200, *planned.network.input.shape)
    if quantized:  # a float network with branches instead
        source = read(random_branches(np.random.default_rng(8)), tmp_path)
        images = np.resize(images, (200, *source.shape))
        recipe = Recipe(code=Code.parse("shift3"))
        planned = design(quantize(source, recipe, activations=4, calibration=images).network, "ecp5-85k")
        assert {"add", "concat"} <= {layer.kind for layer in planned.network.layers}
    rtl, golden = run_rtl(planned, images), run_golden(planned.network, images)
    np.testing.assert_array_equal(rtl.scores, golden.scores)
    np.testing.assert_array_equal(rtl.classes, golden.classes)
    last = planned.plan.latency + 199 * planned.plan.cycles_per_frame
    assert rtl.cycles <= last
