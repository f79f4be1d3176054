"""The 20 bars: what is tested, when it counts as met, and the test functions that prove it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Args:
        number: Its number.
        title: What is tested.
        bar: When it is met.
        tests: Node ids of the test functions that prove it; all cases of a parametrized one.
        not_yet: The part that nothing in medres does yet, and where that is asked for.
    """

    number: int
    title: str
    bar: str
    tests: tuple[str, ...]
    not_yet: str = ""


def _of(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{file}.py::test_{name}" for name in names)


BARS: tuple[Bar, ...] = (
    Bar(
        number=1,
        title="Tracking server killed in the middle of training",
        bar="reaches the last step, exit 0, at most 10 s longer; every metric in events.jsonl; after a restart "
        "`medres track sync` gives equal histories (0 missing, 0 duplicate)",
        tests=(
            *_of("reliability/test_killed_server", "a_server_killed_in_the_middle_of_training"),
            *_of(
                "tracking/test_mirror",
                "training_goes_on_when_the_server_goes_away_and_a_replay_makes_up_for_it",
                "a_server_that_comes_back_is_given_what_it_missed_without_duplicates",
            ),
        ),
    ),
    Bar(
        number=2,
        title="Tracking server unreachable or hanging at the start",
        bar="decided within 5 s: a clear error, or the run goes on by itself and says so",
        tests=(
            *_of(
                "tracking/test_reach",
                "a_server_that_never_answers_is_told_within_five_seconds",
                "a_port_where_nobody_listens_is_told_at_once",
                "a_name_server_that_never_answers_is_told_within_five_seconds",
            ),
            *_of(
                "tracking/test_start",
                "a_server_that_never_answers_is_told_in_five_seconds",
                "a_server_that_answers_the_first_question_only_is_told_in_five_seconds",
            ),
            *_of(
                "tracking/test_doors",
                "a_server_that_is_away_is_told_at_both_ends_and_the_advice_sends_the_run",
            ),
        ),
    ),
    Bar(
        number=3,
        title="Eight processes meet a fresh sqlite database, 20 rounds",
        bar="160 of 160 OK, 0 bricked databases",
        tests=(
            *_of("reliability/test_fresh_databases", "eight_processes_on_twenty_fresh_databases"),
            *_of("tracking/test_store", "fresh_processes_that_start_together_do_not_brick_a_database"),
        ),
    ),
    Bar(
        number=4,
        title="kill -9 while the cache and checkpoints are written, temporary folder on another disk, 50 kills",
        bar="0 corrupt files under a final name; the next run heals itself",
        tests=(
            *_of(
                "reliability/test_killed_writers",
                "a_cache_whose_writers_are_killed",
                "a_checkpoint_whose_writers_are_killed",
            ),
            *_of("preprocessing/test_packed", "a_writer_killed_at_any_moment_leaves_a_cache_that_heals"),
            *_of("runs/test_atomic", "killed_writers_never_leave_a_truncated_file"),
            *_of("faults/test_killed_runs", "killed_as_soon_as_a_file_is_there"),
        ),
    ),
    Bar(
        number=5,
        title="A disk of 8 MB fills up in the cache, a checkpoint, the report, MLflow",
        bar="non-zero exit that names the path and the bytes needed; 0 truncated files; with free space the advised "
        "command succeeds. Of MLflow's database: the training goes on, since tracking never ends one",
        tests=(
            *_of(
                "reliability/test_full_disk",
                "a_full_disk_where_scans_are_prepared",
                "a_disk_that_fills_up_in_the_middle_of_a_run",
                "a_full_disk_under_the_database_of_mlflow",
            ),
            *_of(
                "workflows/test_advice",
                "after_a_full_disk_the_advised_command_finishes_the_run",
                "a_disk_that_is_too_small_is_told_with_all_that_is_needed_and_nothing_is_left",
            ),
        ),
    ),
    Bar(
        number=6,
        title="Output that is read-only or has no room for a file",
        bar="refused before the first epoch, within 2 s of work",
        tests=_of("reliability/test_read_only_output", "an_output_that_cannot_be_written_is_refused_at_once"),
    ),
    Bar(
        number=7,
        title="200 random one-bit flips",
        bar="200 of 200 detected in .nii.gz; 200 of 200 in .nii against the recorded hash",
        tests=(
            *_of("data/readers/test_nifti", "all_of_200_one_bit_flips_are_refused"),
            *_of("data/readers/test_fixtures", "200_of_200_one_bit_flips_of_a_real_scan_are_found"),
            *_of("data/checks/test_recorded", "each_of_many_flipped_bits_in_the_voxels_of_a_plain_file_is_found"),
        ),
    ),
    Bar(
        number=8,
        title="Header bombs (32767³, 1200³ cut off, 800³ of zeros)",
        bar="refused within 50 ms, memory grows by at most 50 MB",
        tests=(
            *_of("data/readers/test_nifti", "bombs_are_refused_at_once_and_without_memory"),
            *_of("data/readers/test_fixtures", "bombs_are_refused_within_50_ms_and_50_mib"),
            *_of("data/readers/test_limits", "a_bomb_is_refused_at_any_level"),
        ),
    ),
    Bar(
        number=9,
        title="14 kinds of malformed NIfTI files",
        bar="14 of 14 get the right finding code; 0 in silence, 0 tracebacks",
        tests=(
            *_of(
                "data/readers/test_fixtures",
                "each_fixture_is_refused_with_its_code",
                "each_fixture_is_read_rightly_and_noted",
                "the_rest_of_the_fixtures_is_read",
                "what_a_header_says_of_the_patient_does_not_leave_the_reader",
            ),
            *_of("integration/test_bad_input", "one_clear_message"),
        ),
    ),
    Bar(
        number=10,
        title="9 kinds of malformed DICOM folders",
        bar="9 of 9 get the right code; two patients are never merged",
        tests=(
            *_of(
                "data/readers/dicom/test_series",
                "a_missing_slice_in_the_middle_is_found_and_filled_at_the_true_positions",
                "missing_slices_at_the_end_are_told_by_the_headers_count",
                "a_copy_of_a_slice_is_left_out",
                "two_series_in_a_folder_are_not_merged",
                "two_patients_in_a_folder_are_never_merged",
                "a_last_slice_with_another_orientation_is_left_out_and_said",
                "a_gantry_tilt_is_corrected_to_true_places",
                "a_scout_within_the_series_is_told_apart",
                "decimal_strings_that_are_too_long_are_numbers",
                "a_header_that_lies_about_the_matrix_is_refused",
                "a_truncated_file_is_refused_and_named",
                "files_that_are_no_dicom_are_ignored",
            ),
            *_of(
                "data/readers/dicom/test_real",
                "missing_middle",
                "missing_last_three",
                "duplicate",
                "two_series_and_two_patients",
                "last_slice_of_another_orientation",
                "tilt_of_20_degrees",
                "localizer_of_another_size",
                "lies_and_cuts",
                "strangers_in_the_folder",
            ),
        ),
    ),
    Bar(
        number=11,
        title="Leakage: 1,000 random cohorts (ids 001, 1, “ 1”, copies across ids), random labels",
        bar="0 patients on two sides, every planted copy reported; random labels give AUROC 0.5 ± 0.1; fewer than 5 "
        "positives are refused or have no interval",
        tests=(
            *_of("data/test_leakage", "no_side_shares_anything_and_every_copy_is_reported"),
            *_of("data/test_folds", "a_class_with_fewer_patients_than_folds_is_refused_with_what_works"),
            *_of("evaluation/test_intervals", "few_patients_have_no_interval_however_many_scans_they_have"),
            *_of(
                "integration/test_chance",
                "noise_gives_chance_with_the_default_recipe_over_ten_seeds",
                "slices_of_a_patient_stay_together_with_and_without_patient_ids",
            ),
        ),
    ),
    Bar(
        number=12,
        title="A canary in every place that can carry a name (DICOM, NIfTI, file names, table)",
        bar="0 hits in what may leave: run folder, logs, database, model, HTTP answers, error messages",
        tests=_of(
            "integration/test_privacy",
            "the_canary_is_where_it_may_be",
            "nothing_that_may_leave_holds_it",
            "a_run_that_breaks_tells_nobody",
            "a_refused_data_set_leaves_nothing",
            "http_answers_never_repeat_it",
            "predictions_in_memory_name_nobody",
            "temporary_voxels_lie_beside_their_destination",
        ),
    ),
    Bar(
        number=13,
        title="Malicious files (.pt, .ckpt, .pt2, .npy, pickle of a pyfunc, zip and bundle that lead out, YAML)",
        bar="0 code executions, nothing written elsewhere",
        tests=(
            *_of(
                "reliability/test_malicious_files",
                "nothing_is_executed_and_nothing_written_elsewhere",
                "the_attack_would_be_seen",
            ),
            *_of("models/test_checkpoints", "what_needs_pickle_is_refused_and_not_run", "a_plain_pickle_is_refused"),
            *_of(
                "deployment/test_bundle",
                "a_pickle_is_never_executed",
                "yaml_objects_are_not_made",
                "file_names_cannot_leave_the_folder",
            ),
            *_of("runs/test_documents", "a_python_object_in_yaml_is_refused"),
        ),
    ),
    Bar(
        number=14,
        title="Killed at an epoch and resumed; SIGTERM",
        bar="weights bitwise equal to those of an uninterrupted run on a CPU, each scan once an epoch; SIGTERM: "
        "checkpoint within 30 s, MLflow says KILLED",
        tests=(
            *_of("reliability/test_sigterm", "a_tracked_run_that_is_told_to_end"),
            *_of(
                "finetuning/test_continuing",
                "a_fold_killed_at_a_checkpoint_ends_with_the_same_bits",
                "a_signal_ends_the_step_keeps_its_state_and_leaves",
            ),
            *_of("finetuning/test_trainer", "an_epoch_sees_every_scan_once_in_even_batches"),
            *_of("faults/test_killed_runs", "sigterm_keeps_the_state_and_marks_the_run"),
            *_of("tracking/test_stale", "a_run_whose_process_is_gone_is_ended_once"),
        ),
    ),
    Bar(
        number=15,
        title="NaN and infinity in a voxel, a label, the loss of step 3, ten overflows of fp16",
        bar="caught in the check or within one step, the scan named by pseudonym, no such weight written",
        tests=(
            *_of(
                "reliability/test_not_finite",
                "a_voxel_that_is_not_finite_in_the_third_step_stops_the_run",
                "fp16_that_overflows_ten_times_goes_on_and_an_eleventh_time_stops",
            ),
            *_of("data/readers/test_nifti", "nan_and_infinity_are_refused_with_their_number"),
            *_of("data/sources/test_label_table", "a_row_that_is_wrong_is_a_finding_and_the_others_stay"),
            *_of(
                "finetuning/test_trainer",
                "a_loss_that_is_not_finite_stops_at_once_and_names_scans_by_pseudonym",
                "a_single_bad_scan_is_named_and_no_other",
            ),
            *_of("deployment/test_bundle", "weights_with_non_finite_values_fail"),
            *_of("models/test_checkpoints", "values_that_are_not_finite"),
        ),
    ),
    Bar(
        number=16,
        title="One answer at every door: predict, pyfunc, HTTP",
        bar="probabilities differ by at most 1e-6; HTTP adds at most 50 ms; a body over the limit gets 413; no traces",
        tests=(
            *_of(
                "reliability/test_serving_parity",
                "predict_pyfunc_and_http_give_the_same_probabilities",
                "http_adds_at_most_50_ms",
            ),
            *_of("tracking/test_served_limits", "a_body_of_80_mb_is_refused_with_413_and_one_sentence"),
            *_of(
                "tracking/test_served_model",
                "no_answer_repeats_what_was_sent_or_shows_the_inside",
                "a_registered_model_is_served_by_mlflow_itself",
            ),
        ),
    ),
    Bar(
        number=17,
        title="Coverage of 95 % intervals (80 patients, 4 scans each)",
        bar="over patients 0.92 to 0.97 (over scans it would be about 0.70)",
        tests=_of("evaluation/test_intervals", "coverage_over_many_studies"),
    ),
    Bar(
        number=18,
        title="Start of the command line",
        bar="`--help` within 0.3 s, no heavy module loaded",
        tests=(
            *_of("reliability/test_help_time", "help_is_there_within_300_ms"),
            *_of("integration/test_imports", "help_loads_nothing_heavy", "light_modules_load_nothing_heavy"),
        ),
    ),
    Bar(
        number=19,
        title="Shift: intensities of another site, twice the prevalence",
        bar="a finding at prediction that names the deviation; calibration-in-the-large is flagged",
        tests=(
            *_of(
                "reliability/test_site_shift",
                "scans_of_another_site_have_a_finding",
                "scans_of_the_own_site_have_none",
                "brightness_of_pictures_is_recorded_as_not_seen",
            ),
            *_of(
                "deployment/test_foreign",
                "the_decision_is_withheld_and_the_probabilities_stay",
                "scans_of_training_are_decided_about",
            ),
            *_of("workflows/test_prediction", "decisions_are_withheld_by_default_and_it_is_said_why"),
        ),
        not_yet="prevalence shift (issue 17: it needs labels of the new site, which nothing in medres reads today); "
        "8-bit pictures that are lighter or darker within what training had",
    ),
    Bar(
        number=20,
        title="The same seed twice, with 1, 2 and 4 reading threads",
        bar="identical metrics.json (times aside); another number of threads is said where a run goes on",
        tests=(
            *_of(
                "reliability/test_same_seed",
                "the_same_seed_gives_the_same_metrics_with_any_number_of_readers",
                "another_number_of_threads_is_said_where_a_run_goes_on",
            ),
            *_of("finetuning/test_trainer", "the_same_seed_gives_the_same_weights_bit_for_bit"),
        ),
    ),
)
