"""Faults of what compresses, compares and reports."""

from mutants import Mutant

STUDIES = (
    Mutant(
        "quantiser on the wrong axis",
        "vidkd/models/fake_integers.py",
        "weight.detach().abs().flatten(1).amax(1)",
        "weight.detach().abs().transpose(0, 1).flatten(1).amax().expand(len(weight))",
        ("tests/models/test_fake_integers.py::test_weights_are_rounded_filter_by_filter",),
    ),
    Mutant(
        "integers of one scale a layer",
        "vidkd/compress/quantise.py",
        "            per_channel=True,",
        "            per_channel=False,",
        ("tests/compress/test_quantise.py::test_every_layer_computes_in_integers_and_says_nearly_the_same",),
    ),
    Mutant(
        "pruned channel mapping shifted",
        "vidkd/compress/prune.py",
        "            each.remove(chosen[each.name])",
        "            each.remove([(number + 1) % each.filters for number in chosen[each.name]])",
        ("tests/compress/test_prune.py::test_filters_that_put_out_zero_go_from_every_backbone_without_a_trace[tiny3d]",),
    ),
    Mutant(
        "the strongest filters go",
        "vidkd/compress/prune.py",
        "    return _plain(module.weight).flatten(1).abs().pow(power).mean(1).pow(1 / power)",
        "    return _plain(module.weight).flatten(1).abs().pow(power).mean(1).pow(-1 / power)",
        ("tests/compress/test_prune.py::test_norms_are_averaged_over_the_layers_of_a_coupling_and_compared_with_its_mean",),
    ),
    Mutant(
        "low rank keeps the least singular values",
        "vidkd/compress/factorise.py",
        "    return vectors.flip(1)[:, :count], squares.flip(0)[:count].clamp(min=0)",
        "    return vectors[:, :count], squares[:count].clamp(min=0)",
        ("tests/compress/test_factorise.py::test_energy_takes_the_least_rank_that_reaches_it",),
    ),
    Mutant(
        "norm statistics are not measured",
        "vidkd/compress/distil.py",
        "    if config.norms:",
        "    if not config.norms:",
        ("tests/compress/test_detector_recipe.py::test_norm_statistics_are_measured_on_the_footage_where_asked",),
    ),
    Mutant(
        "filters that are left after two prunings mapped to the wrong ones",
        "vidkd/compress/refit.py",
        "    return [[old[index] for index in",
        "    return [[old[index - 1] for index in",
        ("tests/compress/test_refit.py::test_filters_are_followed_through_pruning_fitting_and_factorising",),
    ),
    Mutant(
        "bootstrap over clips in place of groups",
        "vidkd/bench/intervals.py",
        "np.asarray(correct, dtype=np.float64), np.asarray(group, dtype=np.str_)",
        "np.asarray(correct, dtype=np.float64), np.arange(len(group)).astype(np.str_)",
        ("tests/bench/test_intervals.py::test_clips_of_one_group_do_not_count_as_independent",),
    ),
    Mutant(
        "bootstrap without the groups",
        "vidkd/bench/intervals.py",
        'times.append([drawn(count, "groups" in over)])',
        "times.append([np.ones((draws, count))])",
        ("tests/bench/test_intervals.py::test_groups_alone_agree_with_scipy",),
    ),
    Mutant(
        "intervals unpaired (classification)",
        "vidkd/bench/intervals.py",
        "there = {name_of(cell): cell for cell in others}",
        "there = {name_of(cell): others[0] for cell in others}",
        (
            "tests/bench/test_intervals.py::test_equal_methods_differ_by_exactly_nothing",
            "tests/bench/test_intervals.py::test_the_paired_interval_holds_the_truth_and_is_narrower_than_unpaired",
        ),
    ),
    Mutant(
        "pairs of other clips accepted",
        "vidkd/bench/intervals.py",
        "    if not np.array_equal(one.judged_on, other.judged_on):\n",
        "    if False and not np.array_equal(one.judged_on, other.judged_on):\n",
        ("tests/bench/test_intervals.py::test_other_clips_are_no_pair",),
    ),
    Mutant(
        "intervals unpaired (streams)",
        "vidkd/bench/intervals.py",
        "return self.one.of_draws(times_DU) - self.other.of_draws(times_DU)",
        "return self.one.of_draws(times_DU) - self.other.of_draws(times_DU[::-1].copy())",
        ("tests/bench/test_intervals.py::test_a_difference_is_paired_on_the_drawn_blocks",),
    ),
    Mutant(
        "blocks of a stream end at its end",
        "vidkd/bench/intervals.py",
        'np.arange(1 - block, frames), axis=1, mode="wrap")',
        'np.arange(1 - block, frames), axis=1, mode="clip")',
        ("tests/bench/test_intervals.py",),
    ),
    Mutant(
        "tuning over all folds",
        "vidkd/bench/tuning.py",
        "of_trial.items() if key.place in judged])",
        "of_trial.items()])",
        (
            "tests/bench/test_tuning.py::test_each_fold_has_the_trial_that_is_best_on_it",
            "tests/bench/test_tuning.py::test_a_fold_chooses_by_its_own_cells_alone",
        ),
    ),
    Mutant(
        "the worst trial is chosen",
        "vidkd/bench/tuning.py",
        "key=lambda number: _rank(scores[number]))",
        'key=lambda number: (scores[number]["mean"], scores[number]["nll"]))',
        (
            "tests/bench/test_tuning.py::test_each_fold_has_the_trial_that_is_best_on_it",
            "tests/bench/test_tuning.py::test_a_fold_chooses_by_its_own_cells_alone",
        ),
    ),
    Mutant(
        "tuned by seeds of the test",
        "vidkd/bench/study.py",
        "seeds = [*self.seeds, *(self.tuning.seeds if tuned else ())]",
        "seeds = [*self.seeds]",
        (
            "tests/bench/test_clip_spec.py::test_what_is_wrong_is_named",
            "tests/bench/test_clip_spec.py::test_seeds_of_tuning_are_others_where_there_is_tuning",
        ),
    ),
    Mutant(
        "unknown key of a study accepted",
        "vidkd/base/records.py",
        "        if key not in fields:",
        "        if key is None:",
        (
            "tests/bench/test_clip_spec.py::test_what_is_wrong_is_named",
            "tests/bench/test_clip_spec.py::test_seeds_of_tuning_are_others_where_there_is_tuning",
        ),
    ),
    Mutant(
        "a ratio of timings over all rounds at once",
        "vidkd/bench/speed/rounds.py",
        "median((above / below)[:, None], seed=seed)",
        "median(np.full((len(above), 1), np.median(above) / np.median(below)), seed=seed)",
        ("tests/bench/speed/test_speed_rounds.py",),
    ),
    Mutant(
        "a rate's interval the wrong way round",
        "vidkd/bench/speed/rounds.py",
        "(each / found.ci95[1], each / found.ci95[0])",
        "(each / found.ci95[0], each / found.ci95[1])",
        ("tests/bench/speed/test_speed_rounds.py",),
    ),
)
