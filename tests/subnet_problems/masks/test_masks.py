"""Properties of mask rules."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import truncnorm

from subnet_problems import FrozenNetwork, MaskedGymProblem, MaskRule, ParetoSparsityProblem, Threshold, TopK
from subnet_problems.masks import CutoffRule, apply_mask, erdos_renyi, expected_scores, num_kept_at, scores_from_mask

NETWORK = FrozenNetwork((3, 4), obs_length=2, act_length=2, bias=True, seed=1)
D = NETWORK.num_weights

_SEEDS = st.integers(0, 2**32 - 1)
_SPARSITIES = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999999])
_SCOPES = st.sampled_from(["global", "layer", "erdos_renyi"])
_RULES = st.builds(TopK, _SPARSITIES, scope=_SCOPES, rescale=st.booleans()) | st.builds(
    Threshold, st.floats(-2, 2), rescale=st.booleans()
)
quick = settings(max_examples=40, deadline=None)


def normal_scores(seed: int, rows: int = 3) -> torch.Tensor:
    return torch.randn((rows, D), generator=torch.Generator().manual_seed(seed))


def tied_scores(seed: int, rows: int = 3) -> torch.Tensor:
    """Scores from {-1, 0, 1}: nearly all of them are tied."""
    return torch.randint(-1, 2, (rows, D), generator=torch.Generator().manual_seed(seed)).float()


_SCORES = st.builds(normal_scores, _SEEDS) | st.builds(tied_scores, _SEEDS)


def ranked_by_hand(scores: list[float], num_kept: int) -> list[bool]:
    """The highest scores, the lower index first among equal ones."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = set(order[:num_kept])
    return [i in kept for i in range(len(scores))]


@quick
@given(scores=_SCORES, rule=_RULES)
def test_masked_weights_are_weights_times_bits_times_the_scale_of_their_layer(scores, rule):
    mask = rule(scores, NETWORK.layers)
    decoded = apply_mask(NETWORK.weights, mask, NETWORK.layers, rescale=rule.rescale)
    assert mask.dtype == torch.bool
    assert mask.shape == scores.shape
    weights = NETWORK.weights.numpy()
    for row, bits in zip(decoded.numpy(), mask.numpy(), strict=True):
        expected = np.where(bits, weights, np.float32(0))
        for layer in NETWORK.layers:
            kept = bits[layer.slice].sum()
            if rule.rescale and len(layer.shape) == 2 and kept:
                expected[layer.slice] *= np.float32(math.sqrt(layer.size / kept))
        np.testing.assert_array_equal(row, expected)


@quick
@given(scores=_SCORES)
def test_a_removed_weight_is_plus_zero(scores):
    mask = Threshold()(scores, NETWORK.layers)
    decoded = apply_mask(NETWORK.weights, mask, NETWORK.layers, rescale=False)
    assert decoded[~mask].view(torch.int32).tolist() == [0] * int((~mask).sum())


@quick
@given(scores=_SCORES, sparsity=_SPARSITIES)
def test_global_topk_keeps_the_exact_number_despite_ties(scores, sparsity):
    mask = TopK(sparsity)(scores, NETWORK.layers)
    assert mask.sum(dim=1).tolist() == [round(D * (1 - sparsity))] * len(scores)


@quick
@given(scores=_SCORES, sparsity=_SPARSITIES)
def test_layer_topk_keeps_the_exact_number_in_each_layer(scores, sparsity):
    mask = TopK(sparsity, scope="layer")(scores, NETWORK.layers)
    for layer in NETWORK.layers:
        assert mask[:, layer.slice].sum(dim=1).tolist() == [round(layer.size * (1 - sparsity))] * len(scores)


@quick
@given(scores=_SCORES, sparsity=_SPARSITIES)
def test_erdos_renyi_topk_keeps_the_exact_number_and_the_highest_of_each_layer(scores, sparsity):
    mask = TopK(sparsity, scope="erdos_renyi")(scores, NETWORK.layers)
    counts = erdos_renyi(round(D * (1 - sparsity)), NETWORK.layers)
    assert sum(counts) == round(D * (1 - sparsity))
    for row, bits in zip(scores.tolist(), mask.tolist(), strict=True):
        for layer, count in zip(NETWORK.layers, counts, strict=True):
            assert bits[layer.slice] == ranked_by_hand(row[layer.slice], count)


@quick
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), share=st.floats(0, 1), bias=st.booleans()
)  # for any network and any number
def test_a_layer_keeps_a_number_proportional_to_its_inputs_plus_outputs_or_all_weights(sizes, share, bias):
    network = FrozenNetwork(tuple(sizes), obs_length=3, act_length=2, bias=bias)
    num_kept = round(share * network.num_weights)
    counts = erdos_renyi(num_kept, network.layers)
    assert sum(counts) == num_kept
    rates = [count / sum(layer.shape) for count, layer in zip(counts, network.layers, strict=True)]
    partly = [i for i, layer in enumerate(network.layers) if counts[i] < layer.size]
    for i, layer in enumerate(network.layers):
        assert 0 <= counts[i] <= layer.size
        for j in partly:  # up to rounding; a full layer may have a lower rate
            assert rates[i] <= rates[j] + 1 / sum(layer.shape) + 1 / sum(network.layers[j].shape)


def test_erdos_renyi_gives_known_counts_for_the_papers_network():
    network = FrozenNetwork((87, 87), obs_length=8, act_length=2)
    assert erdos_renyi(169, network.layers) == [45, 82, 42]  # of 696, 7,569, 174 weights; shares 95, 174, 89 of 358
    assert erdos_renyi(844, network.layers) == [237, 433, 174]


@quick
@given(scores=_SCORES, sparsity=_SPARSITIES)
def test_topk_keeps_the_highest_scores_and_the_lower_index_among_equal_ones(scores, sparsity):
    mask = TopK(sparsity)(scores, NETWORK.layers)
    per_layer = TopK(sparsity, scope="layer")(scores, NETWORK.layers)
    for row, bits, layer_bits in zip(scores.tolist(), mask.tolist(), per_layer.tolist(), strict=True):
        assert bits == ranked_by_hand(row, round(D * (1 - sparsity)))
        for layer in NETWORK.layers:
            expected = ranked_by_hand(row[layer.slice], round(layer.size * (1 - sparsity)))
            assert layer_bits[layer.slice] == expected


def test_among_equal_scores_the_first_are_kept():
    mask = TopK(0.75)(torch.zeros((1, D)), NETWORK.layers)
    num_kept = round(D * 0.25)
    assert mask[0].tolist() == [True] * num_kept + [False] * (D - num_kept)


def test_minus_zero_and_zero_are_equal_scores():
    scores = torch.tensor([[-0.0, 0.0] * D])[:, :D]
    assert torch.equal(TopK(0.5)(scores, NETWORK.layers), TopK(0.5)(torch.zeros((1, D)), NETWORK.layers))


def test_infinite_scores_are_the_highest_and_the_lowest():
    scores = torch.zeros((1, D))
    scores[0, [3, 8]] = math.inf
    scores[0, 0] = -math.inf
    mask = TopK(1 - 2 / D)(scores, NETWORK.layers)
    assert torch.nonzero(mask[0]).flatten().tolist() == [3, 8]
    assert not TopK(1 / D)(scores, NETWORK.layers)[0, 0]


@quick
@given(scores=_SCORES, sparsity=_SPARSITIES, scope=_SCOPES)
def test_topk_depends_only_on_the_order_of_the_scores(scores, sparsity, scope):
    rule = TopK(sparsity, scope=scope)
    mask = rule(scores, NETWORK.layers)
    ranks = torch.unique(scores, return_inverse=True)[1]
    for transformed in (4 * scores, scores.double() + 1e3, scores.double() ** 3, ranks.float(), ranks):
        assert torch.equal(rule(transformed, NETWORK.layers), mask)


@quick
@given(scores=_SCORES, value=st.floats(-2, 2, width=32))
def test_threshold_keeps_scores_above_its_value(scores, value):
    expected = [[score > value for score in row] for row in scores.tolist()]
    assert Threshold(value)(scores, NETWORK.layers).tolist() == expected


def test_threshold_removes_scores_equal_to_its_value():
    assert not Threshold(0.0)(torch.zeros((1, D)), NETWORK.layers).any()


@quick
@given(scores=_SCORES, rule=_RULES, others=_SEEDS)
def test_each_row_is_masked_independently(scores, rule, others):
    mask = rule(scores, NETWORK.layers)
    decoded = apply_mask(NETWORK.weights, mask, NETWORK.layers, rescale=rule.rescale)
    for i in range(len(scores)):
        alone = rule(scores[i : i + 1], NETWORK.layers)
        crowd = rule(torch.cat([normal_scores(others), scores[i : i + 1]]), NETWORK.layers)
        assert torch.equal(alone[0], mask[i])
        assert torch.equal(crowd[-1], mask[i])
        lone = apply_mask(NETWORK.weights, alone, NETWORK.layers, rescale=rule.rescale)
        assert torch.equal(lone[0], decoded[i])


@quick
@given(scores=_SCORES, rule=_RULES)
def test_rules_do_not_change_scores_or_weights(scores, rule):
    scores_before, weights = scores.clone(), NETWORK.weights
    mask = rule(scores, NETWORK.layers)
    mask_before, weights_before = mask.clone(), weights.clone()
    apply_mask(weights, mask, NETWORK.layers, rescale=True)
    assert torch.equal(scores, scores_before)
    assert torch.equal(mask, mask_before)
    assert torch.equal(weights, weights_before)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_rescaling_keeps_the_second_moment_of_a_layer_of_equal_weights(sparsity):
    network = FrozenNetwork((40, 40), obs_length=20, act_length=5, bias=True, weight_init="signed_kaiming_constant")
    scores = torch.randn((2, network.num_weights), generator=torch.Generator().manual_seed(0))
    mask = TopK(sparsity)(scores, network.layers)
    decoded = apply_mask(network.weights, mask, network.layers, rescale=True)
    for layer in network.layers:
        if len(layer.shape) == 2:
            moments = decoded[:, layer.slice].double().square().mean(dim=1)
            dense = network.weights[layer.slice].double().square().mean()
            torch.testing.assert_close(moments, dense.expand(2), rtol=1e-6, atol=0)


def test_biases_are_never_rescaled():
    mask = TopK(0.5)(normal_scores(0), NETWORK.layers)
    decoded = apply_mask(NETWORK.weights, mask, NETWORK.layers, rescale=True)
    for layer in NETWORK.layers:
        if len(layer.shape) == 1:
            plain = NETWORK.weights[layer.slice] * mask[:, layer.slice]
            assert torch.equal(decoded[:, layer.slice], plain)


def test_a_layer_without_kept_weights_is_all_zero():
    mask = torch.zeros((1, D), dtype=torch.bool)
    decoded = apply_mask(NETWORK.weights, mask, NETWORK.layers, rescale=True)
    assert decoded.tolist() == [[0.0] * D]


def test_a_mask_that_keeps_all_gives_the_frozen_weights():
    mask = TopK(0.0)(normal_scores(0, rows=1), NETWORK.layers)
    for rescale in (False, True):
        assert torch.equal(apply_mask(NETWORK.weights, mask, NETWORK.layers, rescale=rescale)[0], NETWORK.weights)


@quick
@given(sparsity=_SPARSITIES, count=st.integers(1, 10_000))
def test_the_number_kept_is_within_half_a_weight_of_the_requested_density(sparsity, count):
    assert 0 <= num_kept_at(sparsity, count) <= count
    assert abs(num_kept_at(sparsity, count) - count * (1 - sparsity)) <= 0.5


@quick
@given(scores=st.builds(normal_scores, _SEEDS), rule=_RULES)
def test_the_cutoff_of_one_row_separates_kept_from_removed_scores(scores, rule):
    for row in scores:
        cutoff = rule.cutoffs(row[None], NETWORK.layers)[0]
        kept = rule(row[None], NETWORK.layers)[0]
        cutoff, row = torch.broadcast_tensors(cutoff, row)
        assert (row[kept] >= cutoff[kept]).all()
        assert (row[~kept] <= cutoff[~kept]).all()


@pytest.mark.parametrize(
    ("rule", "infinite"),
    [
        (TopK(0.0), -math.inf),
        (TopK(0.2, scope="erdos_renyi"), -math.inf),
        (TopK(0.98, scope="layer"), math.inf),
        (TopK(0.999), math.inf),
    ],
    ids=repr,
)
def test_the_cutoff_is_infinite_if_all_or_no_weights_of_a_scope_are_kept(rule, infinite):
    scores = normal_scores(0, rows=3)
    cutoff, kept = rule.cutoffs(scores, NETWORK.layers)[0], rule(scores, NETWORK.layers)
    seen = set()
    for layer in NETWORK.layers:
        same = kept[:, layer.slice].all() or not kept[:, layer.slice].any()
        seen.add(bool(same))
        if same:
            assert (cutoff[layer.slice] == infinite).all()
        else:
            assert cutoff[layer.slice].isfinite().all()
    assert True in seen


def test_the_cutoff_of_several_rows_is_their_mean():
    scores = normal_scores(0, rows=4)
    for rule in (TopK(0.7), TopK(0.7, scope="layer"), TopK(0.7, scope="erdos_renyi")):
        cutoffs = torch.stack([rule.cutoffs(row[None], NETWORK.layers) for row in scores])
        torch.testing.assert_close(rule.cutoffs(scores, NETWORK.layers), cutoffs.mean(dim=0))


@quick
@given(
    center=st.floats(-2, 2, width=32), stdev=st.floats(0.05, 3), cutoff=st.floats(-2, 2, width=32)
)  # up to 80 standard deviations off
def test_expected_scores_are_means_of_truncated_normal_distributions(center, stdev, cutoff):
    bounds = (cutoff - center) / stdev
    kept, removed = expected_scores(
        torch.tensor([[True], [False]]), center=torch.tensor([center]), stdev=stdev, cutoffs=torch.tensor([[cutoff]])
    ).flatten()
    if bounds < 8:  # otherwise the weight is almost never kept, and SciPy's mean is less exact
        assert kept.item() == pytest.approx(truncnorm.mean(bounds, math.inf, center, stdev), rel=1e-4, abs=1e-5)
    if bounds > -8:
        assert removed.item() == pytest.approx(truncnorm.mean(-math.inf, bounds, center, stdev), rel=1e-4, abs=1e-5)
    assert kept >= max(center, cutoff) - 1e-5
    assert removed <= min(center, cutoff) + 1e-5


@pytest.mark.parametrize("cutoff", [-math.inf, math.inf])
def test_with_an_infinite_cutoff_expected_scores_equal_the_center(cutoff):
    expected = expected_scores(
        torch.full((1, 3), cutoff < 0),
        center=torch.tensor([0.0, 1.0, -5.0]),
        stdev=0.1,
        cutoffs=torch.tensor([[cutoff]]),
    )
    assert expected.tolist() == [[0.0, 1.0, -5.0]]


@quick
@given(
    center=st.floats(-2, 2, width=32),
    stdev=st.floats(0.05, 3),
    cutoffs=st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=4, unique=True).map(sorted),
)
def test_expected_scores_of_intervals_are_means_of_doubly_truncated_normals(center, stdev, cutoffs):
    values = [0, -1, 1, 5, 7][: len(cutoffs) + 1]
    found = expected_scores(
        torch.tensor(values, dtype=torch.int8)[:, None], center=torch.tensor([center], dtype=torch.float64),
        stdev=stdev, cutoffs=torch.tensor(cutoffs, dtype=torch.float64)[:, None], values=values,
    )[:, 0].tolist()  # fmt: skip
    edges = [-math.inf, *cutoffs, math.inf]
    for score, low, high in zip(found, edges[:-1], edges[1:], strict=True):
        assert low <= score <= high
        bounds = (low - center) / stdev, (high - center) / stdev
        if bounds[0] < 8 and bounds[1] > -8 and bounds[1] - bounds[0] > 1e-3:  # otherwise SciPy's mean is less exact
            assert score == pytest.approx(truncnorm.mean(*bounds, center, stdev), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("low", [0.0, 0.3])
def test_the_expected_score_of_an_empty_interval_is_its_position(low):
    cutoffs = torch.tensor([[low], [low + 1e-38]])
    found = expected_scores(
        torch.tensor([[1]], dtype=torch.int8), center=torch.tensor([1.0]), stdev=1.0, cutoffs=cutoffs, values=(0, 1, 2)
    )
    assert found.item() == pytest.approx(low)


def test_expected_scores_of_a_distant_interval_are_at_its_nearer_edge():
    for center, near in ((-50.0, 0.1), (50.0, 0.2)):
        found = expected_scores(
            torch.tensor([[1]], dtype=torch.int8), center=torch.tensor([center]), stdev=0.1,
            cutoffs=torch.tensor([[0.1], [0.2]]), values=(0, 1, 2),
        )  # fmt: skip
        assert found.item() == pytest.approx(near, abs=1e-3)


@pytest.mark.parametrize("rule", [Threshold(0.2), TopK(0.5)])
def test_both_rules_have_a_cutoff(rule):
    assert isinstance(rule, CutoffRule)


def test_by_default_topk_rescales_and_threshold_does_not():
    assert not Threshold().rescale
    assert TopK(0.5).rescale
    assert TopK(0.5).scope == "global"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Threshold(0.5), "Threshold(0.5, rescale=False)"),
        (TopK(0.9, scope="layer"), "TopK(0.9, scope='layer', rescale=True)"),
    ],
)
def test_a_rule_is_a_mask_rule_and_its_repr_recreates_it(rule, text):
    assert isinstance(rule, MaskRule)
    assert repr(rule) == text
    assert repr(eval(text)) == text


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan, math.inf, -math.inf])
def test_an_out_of_range_sparsity_is_refused(sparsity):
    with pytest.raises(ValueError, match=f"^sparsity: expected a finite number >= 0 and < 1, got {sparsity!r}$"):
        TopK(sparsity)


@pytest.mark.parametrize("sparsity", ["0.5", None, True, [0.5]])
def test_a_sparsity_of_a_wrong_type_is_refused(sparsity):
    with pytest.raises(TypeError, match=r"^sparsity: expected "):
        TopK(sparsity)


@pytest.mark.parametrize(("scope", "error"), [("layers", ValueError), ("", ValueError), (None, TypeError)])
def test_an_unknown_scope_is_refused_with_the_known_ones(scope, error):
    with pytest.raises(error, match=r"^scope: expected one of \['erdos_renyi', 'global', 'layer'\], got "):
        TopK(0.5, scope=scope)


@pytest.mark.parametrize(
    ("value", "error"), [(math.nan, ValueError), (math.inf, ValueError), ("0", TypeError), (False, TypeError)]
)
def test_an_invalid_threshold_is_refused(value, error):
    with pytest.raises(error, match=r"^value: expected a finite number, got "):
        Threshold(value)


@pytest.mark.parametrize("make", [lambda: Threshold(0.0, rescale=1), lambda: TopK(0.5, rescale="yes")])
def test_rescale_must_be_true_or_false_or_factors(make):
    with pytest.raises(TypeError, match=r"^rescale: expected True, False or a factor for each layer, got "):
        make()


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_factors_must_be_finite_and_above_0(factor):
    with pytest.raises(ValueError, match=r"^rescale: expected a finite number > 0, got "):
        TopK(0.5, rescale=(1.0, factor))


# Scores from a mask

_MASKS = st.lists(st.booleans(), min_size=D, max_size=D).map(torch.tensor)
_STDEVS = st.sampled_from([1e-30, 0.1, 1e30])


@quick
@given(mask=_MASKS, stdev=_STDEVS, seed=_SEEDS)
def test_scores_from_a_mask_give_that_mask_with_topk_of_equal_size_and_with_threshold(mask, stdev, seed):
    scores = scores_from_mask(mask, stdev=stdev, seed=seed)[None]
    num_kept = int(mask.sum())
    if num_kept:
        assert torch.equal(TopK(1.0 - num_kept / D)(scores, NETWORK.layers)[0], mask)
    assert torch.equal(Threshold(0.0)(scores, NETWORK.layers)[0], mask)


@quick
@given(mask=_MASKS, stdev=_STDEVS, seed=_SEEDS, sparsity=_SPARSITIES, scope=_SCOPES)
def test_other_rules_keep_as_much_of_the_mask_as_possible(mask, stdev, seed, sparsity, scope):
    scores = scores_from_mask(mask, stdev=stdev, seed=seed)[None]
    got = TopK(sparsity, scope=scope)(scores, NETWORK.layers)[0]
    for part in [slice(0, D)] if scope == "global" else [layer.slice for layer in NETWORK.layers]:
        common = int((got & mask)[part].sum())
        assert common == min(int(got[part].sum()), int(mask[part].sum()))


@quick
@given(mask=_MASKS, live=_MASKS, seed=_SEEDS)
def test_scores_rank_live_weights_above_dead_ones_above_removed_ones(mask, live, seed):
    scores = scores_from_mask(mask, stdev=0.1, seed=seed, live=live.numpy())
    groups = [scores[~mask], scores[mask & ~live], scores[mask & live]]
    ranked = torch.cat([group.sort().values for group in groups])
    assert torch.equal(ranked, scores.sort().values)
    plain = scores_from_mask(mask, stdev=0.1, seed=seed)
    assert torch.equal(plain.sort().values, scores.sort().values)  # the same values in another order


@pytest.mark.parametrize("scope", ["global", "layer", "erdos_renyi"])
def test_fixed_factors_are_the_same_at_every_sparsity(scope):
    masked = MaskedGymProblem(
        "CartPole-v1", hidden_sizes=(8, 6), bias=True, mask_rule=TopK(0.5, scope=scope, rescale="fixed"), seed=0
    )
    layers = masked.network.layers
    kept = dict(zip(range(len(layers)), [0.5 * layer.size for layer in layers], strict=True))
    if scope != "global":
        at_half = TopK(0.5, scope=scope)(torch.randn(1, masked.network.num_weights), layers)[0]
        kept = {i: int(at_half[layer.slice].sum()) for i, layer in enumerate(layers)}
    factors = [(layer.size / kept[i]) ** 0.5 if len(layer.shape) > 1 else 1.0 for i, layer in enumerate(layers)]
    assert masked.mask_rule.rescale == pytest.approx(factors, rel=1e-6)
    problem = ParetoSparsityProblem(masked, max_sparsity=0.9)
    x = np.random.default_rng(0).normal(size=(2, problem.n_var))
    x[:, -1] = np.log2([0.7, 0.15])
    for row, mask in zip(x, problem.mask(x), strict=True):
        scale = torch.cat([torch.full((layer.size,), f) for layer, f in zip(layers, factors, strict=True)])
        torch.testing.assert_close(problem.to_subnetwork(row).weights, masked.frozen_weights * scale * mask)


def test_fixed_factors_appear_in_the_repr_and_need_no_network():
    assert repr(TopK(0.9, rescale="fixed")) == "TopK(0.9, scope='global', rescale='fixed')"
    with pytest.raises(TypeError, match=r"^rescale: expected True, False or a factor"):
        TopK(0.9, rescale="fix")
