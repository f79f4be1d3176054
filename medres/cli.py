"""The command line: the verbs of `medres.workflows`, their options and their exit codes. No logic."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from medres._version import __version__
from medres.errors import MedresError
from medres.runs.printable import make_warnings_printable, printable_json, printable_message

app = typer.Typer(
    name="medres",
    help=(
        "Honest CT/MRI classifiers from pretrained 2D and 3D ResNets.\n\n"
        "Point it at a folder of labelled scans:\n\n"
        "    medres finetune --data scans/ --arch resnet50\n\n"
        "scans/ holds one folder a class, or labels.csv with the columns path, label and (if scans share "
        "patients) patient_id. The run is split by patients, cross-validated, scored with intervals, tracked "
        "in MLflow and kept as one bundle for `medres predict` and `mlflow models serve`."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
track = typer.Typer(name="track", help="MLflow tracking of runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(track)
weights_app = typer.Typer(name="weights", help="Pretrained weights.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(weights_app)

Text = str | None
Number = int | None
File = Path | None

LAYOUTS = (
    "a folder of class folders, a folder with labels.csv (or that file), a BIDS data set, a MONAI data list (.json), "
    "a MedMNIST .npz; NIfTI, DICOM, NRRD, MHA, MGH, PNG, JPEG, TIFF, npy, npz"
)
Data = Annotated[File, typer.Option(help=f"Labelled scans: {LAYOUTS}.")]
Arch = Annotated[Text, typer.Option(help="Backbone: resnet18, resnet50, ... `medres archs` lists all.")]
Labels = Annotated[File, typer.Option(help="Table of labels that lies elsewhere.")]
LabelColumn = Annotated[Text, typer.Option(help="Column with the class. Default: label.")]
PatientColumn = Annotated[Text, typer.Option(help="Column with the patient. Default: patient_id, if it is there.")]
PatientPattern = Annotated[Text, typer.Option(help="Regular expression whose group finds the patient in a path.")]
UnitColumn = Annotated[Text, typer.Option(help="Column with what is scored as one, such as lesion_id.")]
Positive = Annotated[Text, typer.Option(help="Positive class of two. Default: the last in sorted order.")]
Suffix = Annotated[Text, typer.Option(help="BIDS: which images, such as T1w. Default: the one all subjects have.")]
Series = Annotated[Text, typer.Option(help="DICOM: regular expression that chooses the series of a study.")]
Sequences = Annotated[Text, typer.Option(help="Columns of images that become channels: t1,t2,flair.")]
MaskColumn = Annotated[Text, typer.Option(help="Column with masks of the regions of interest. Default: mask.")]
Volume = Annotated[Number, typer.Option(help="4D: which volume is the scan, from 0. Default: 4D is refused.")]
GantryTilt = Annotated[Text, typer.Option(help="Tilted CT: correct or refuse. Default: correct.")]
UnevenSlices = Annotated[Text, typer.Option(help="Slices at uneven distances: resample or refuse. Default: resample.")]
RoiSize = Annotated[
    Text, typer.Option(help="Region of interest in mm about the mask or centre columns: 40 or 40,40,60.")
]
Near = Annotated[Text, typer.Option(help="Near copies: group (one side of every split) or ignore. Default: group.")]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out the scans with this finding. May be given several times.")
]
Weights = Annotated[
    Text,
    typer.Option(
        help="auto, imagenet, medicalnet (3D), none, a timm tag, hf-hub:NAME, a file or a run. Default: auto."
    ),
]
WeightsDir = Annotated[File, typer.Option(help="Weights for offline use. Default: $MEDRES_WEIGHTS_DIR.")]
Recipe = Annotated[
    Text,
    typer.Option(help="auto, linear-probe, lp-ft, gradual, partial, full, or a YAML file of stages. Default: auto."),
]
Dims = Annotated[Text, typer.Option(help="auto, 2, 2.5 (slice by slice) or 3. Default: auto.")]
Folds = Annotated[Number, typer.Option(help="Folds of the cross-validation. Default: 5, or the given splits.")]
Seed = Annotated[Number, typer.Option(help="Of splits, sample order and augmentation. Default: 0.")]
Epochs = Annotated[Number, typer.Option(help="Fine-tuning epochs. Default: 15 on a CPU, 40 on a GPU.")]
BatchSize = Annotated[Number, typer.Option(help="Scans a training step. Default: by plan.")]
Resume = Annotated[File, typer.Option(help="Go on with this run, from where it was interrupted.")]
OneFold = Annotated[
    Number, typer.Option("--fold", help="Train this fold only, from 0; `medres collect RUN` scores the whole.", min=0)
]
Name = Annotated[Text, typer.Option(help="Name of the run. Default: from architecture and time.")]
PlanFile = Annotated[File, typer.Option(help="Follow this plan.yaml instead of planning.")]
CacheDir = Annotated[File, typer.Option(help="Prepared scans, shared by runs. Default: OUTPUT/cache.")]
Tracking = Annotated[bool | None, typer.Option("--tracking/--no-tracking", help="Mirror to MLflow. Default: yes.")]
Experiment = Annotated[
    Text, typer.Option(help="MLflow experiment. Default: $MLFLOW_EXPERIMENT_ID or _NAME, or medres.")
]
Register = Annotated[Text, typer.Option(help="Register the model under this name.")]
Config = Annotated[File, typer.Option(help="YAML with any of these options; options given here win.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, such as optimisation.ema=false.")]
Uri = Annotated[
    Text,
    typer.Option(
        help="MLflow server or database. Default: $MLFLOW_TRACKING_URI, the store a run is in, or OUTPUT/mlflow.db."
    ),
]
Output = Annotated[File, typer.Option(help="Folder of all runs. Default: runs.")]
Device = Annotated[Text, typer.Option(help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def finetune(
    data: Data = None,
    arch: Arch = None,
    labels: Labels = None,
    label_column: LabelColumn = None,
    patient_column: PatientColumn = None,
    patient_pattern: PatientPattern = None,
    unit_column: UnitColumn = None,
    positive: Positive = None,
    suffix: Suffix = None,
    series: Series = None,
    sequences: Sequences = None,
    mask_column: MaskColumn = None,
    volume: Volume = None,
    gantry_tilt: GantryTilt = None,
    uneven_slices: UnevenSlices = None,
    roi_size_mm: RoiSize = None,
    near_duplicates: Near = None,
    exclude_findings: Exclude = None,
    weights: Weights = None,
    weights_dir: WeightsDir = None,
    recipe: Recipe = None,
    dims: Dims = None,
    folds: Folds = None,
    seed: Seed = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    device: Device = None,
    output: Output = None,
    name: Name = None,
    plan: PlanFile = None,
    cache_dir: CacheDir = None,
    tracking: Tracking = None,
    tracking_uri: Uri = None,
    experiment: Experiment = None,
    register: Register = None,
    config: Config = None,
    assignments: Assignments = None,
    resume: Resume = None,
    fold: OneFold = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fine-tune, cross-validate and score a classifier: the main job.

    Example: medres finetune --data scans/ --arch resnet50
    """
    options = {key: value for key, value in locals().items() if key not in _SHARED}

    def work() -> Any:
        from medres import workflows
        from medres.config import FinetuneConfig

        progress = _progress(quiet=quiet or json_)
        if resume is not None:
            return workflows.resume(resume, progress=progress, config=config, set=assignments, fold=fold, **options)
        settings = FinetuneConfig.build(file=config, assignments=tuple(assignments or ()), **options)
        workflows.check_places(settings, fold=fold)  # before seconds are spent on importing what training needs
        if fold is not None:
            return workflows.run_fold(settings, fold=fold, progress=progress)
        return workflows.run_finetune(settings, progress=progress)

    _answer(lambda: _together(work, as_json=json_), debug=debug, as_json=json_, left=_KEPT)


@app.command()
def collect(
    run: Annotated[Path, typer.Argument(help="A run whose folds were trained with --fold.")],
    device: Device = None,
    tracking: Tracking = None,
    tracking_uri: Uri = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a run whose folds were trained as jobs of their own, and publish it.

    Example: medres collect runs/ct-nodules
    """

    def work() -> Any:
        from medres import workflows

        return workflows.collect(
            run, progress=_progress(quiet=quiet or json_), device=device, tracking=tracking, tracking_uri=tracking_uri
        )

    _answer(lambda: _together(work, as_json=json_), debug=debug, as_json=json_, left=_KEPT)


@app.command()
def inspect(
    data: Annotated[Path, typer.Argument(help=f"Scans, labelled or not: {LAYOUTS}.")],
    labels: Labels = None,
    label_column: LabelColumn = None,
    patient_column: PatientColumn = None,
    patient_pattern: PatientPattern = None,
    unit_column: UnitColumn = None,
    positive: Positive = None,
    suffix: Suffix = None,
    series: Series = None,
    sequences: Sequences = None,
    mask_column: MaskColumn = None,
    volume: Volume = None,
    gantry_tilt: GantryTilt = None,
    uneven_slices: UnevenSlices = None,
    roi_size_mm: RoiSize = None,
    exclude_findings: Exclude = None,
    manifest: Annotated[File, typer.Option(help="scans.csv of an earlier run: are the voxels still the same?")] = None,
    html: Annotated[File, typer.Option(help="Write a page with pictures (local: it names files).")] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check a data set: readable, plausible, labelled, free of leaks. Exit code 1 if training would be refused.

    Example: medres inspect scans/ --html inspect.html
    """
    options = {key: value for key, value in locals().items() if key not in {*_SHARED, "manifest", "html", "quiet"}}

    def work() -> Any:
        from medres import workflows
        from medres.config import DataConfig

        settings = DataConfig.build(**options)
        progress = _progress(quiet=quiet or json_)
        inspection = workflows.run_inspect(settings, html=html, manifest=manifest, progress=progress)
        return _Answer(inspection.summary() if json_ else inspection.screen(), exit_code=inspection.exit_code)

    _answer(work, debug=debug, as_json=json_)


@app.command()
def preview(
    data: Annotated[Path, typer.Argument(help=f"Labelled scans: {LAYOUTS}.")],
    html: Annotated[Path, typer.Option(help="Page to write (local: it names files and shows patients).")],
    arch: Annotated[Text, typer.Option(help="Backbone that the input is made for. Default: resnet18.")] = None,
    scans_per_class: Annotated[Number, typer.Option(help="Scans of each class. Default: 3.")] = None,
    views: Annotated[Number, typer.Option(help="Random changes of each scan: epochs 1, 2, ... Default: 4.")] = None,
    labels: Labels = None,
    label_column: LabelColumn = None,
    patient_column: PatientColumn = None,
    patient_pattern: PatientPattern = None,
    unit_column: UnitColumn = None,
    positive: Positive = None,
    suffix: Suffix = None,
    series: Series = None,
    sequences: Sequences = None,
    mask_column: MaskColumn = None,
    volume: Volume = None,
    gantry_tilt: GantryTilt = None,
    uneven_slices: UnevenSlices = None,
    roi_size_mm: RoiSize = None,
    near_duplicates: Near = None,
    exclude_findings: Exclude = None,
    weights: Weights = None,
    weights_dir: WeightsDir = None,
    dims: Dims = None,
    folds: Folds = None,
    seed: Seed = None,
    device: Device = None,
    plan: Annotated[File, typer.Option(help="Follow this plan.yaml, or that of this run, instead of planning.")] = None,
    cache_dir: Annotated[File, typer.Option(help="Prepared scans of runs. Default: a folder that is deleted.")] = None,
    config: Config = None,
    assignments: Assignments = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what the network sees: a few scans as read, prepared, and changed at random. Nothing is trained.

    Example: medres preview scans/ --arch resnet50 --html preview.html
    """
    options = {key: value for key, value in locals().items() if key not in {*_SHARED, "html"}}

    def work() -> Any:
        from medres import workflows
        from medres.config import PreviewConfig

        settings = PreviewConfig.build(file=config, assignments=tuple(assignments or ()), **options)
        shown = workflows.run_preview(settings, html=html, progress=_progress(quiet=quiet or json_))
        return shown.summary() if json_ else shown.screen()

    _answer(work, debug=debug, as_json=json_)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A run, a bundle or models:/NAME@alias.")],
    scans: Annotated[list[Path], typer.Argument(help="Files, folders or a table of scans.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV to write (local: it names files).")],
    member: Annotated[int | None, typer.Option(help="Only this fold's model. Default: the ensemble.")] = None,
    on_mismatch: Annotated[
        str, typer.Option(help="Scans unlike those of training: warn, withhold the decision, or refuse.")
    ] = "withhold",
    device: Device = None,
    tracking_uri: Uri = None,
    output: Output = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predict scans with a trained model, exactly as in its evaluation.

    One row for each scan given, in the order given; a folder stands for its scans, a table for its rows. A command that
    was stopped goes on when it is given again.

    A withheld decision is no error: exit code 0. With scans that cannot be read, or are refused, it is 1.

    Example: medres predict runs/ct-nodules new_scans/ -o predictions.csv
    """

    def work() -> Any:
        from medres import workflows

        outcome = workflows.run_predict(
            model, scans, out=out, member=member, device=device or "cpu", tracking_uri=tracking_uri,
            output=output or Path("runs"), progress=_progress(quiet=quiet or json_), on_mismatch=on_mismatch,
        )  # fmt: skip
        return outcome.summary() if json_ else outcome.screen()

    _answer(work, debug=debug, as_json=json_)


@app.command()
def register(
    model: Annotated[str, typer.Argument(help="A run or a bundle.")],
    name: Annotated[str, typer.Argument(help="Name in the registry.")],
    alias: Annotated[str, typer.Option(help="Alias that then points to this version.")] = "candidate",
    tracking_uri: Uri = None,
    output: Output = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Register a trained model in the MLflow registry.

    Example: medres register runs/ct-nodules ct-nodules --alias champion
    """

    def work() -> Any:
        from medres import workflows

        version = workflows.register(model, name=name, alias=alias, tracking_uri=tracking_uri, output=output)
        return version.summary() if json_ else version.screen()

    _answer(work, debug=debug, as_json=json_)


@app.command()
def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; runs that differ in their seed only are one.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="NAME=RUN,RUN: take these runs together. May be given several times.")
    ] = None,
    reference: Annotated[Text, typer.Option(help="What the others are compared with. Default: the first.")] = None,
    html: Annotated[File, typer.Option(help="Write a page with figures (run names and scores only).")] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare finished runs of the same scans: scores, paired differences with intervals, costs.

    Example: medres compare runs/r18-s0 runs/r18-s1 runs/r50-s0 runs/r50-s1 --html compare.html
    """

    def work() -> Any:
        from medres import workflows

        comparison = workflows.compare(
            runs or (), groups=workflows.parse_groups(group or ()), reference=reference, html=html,
            progress=_progress(quiet=quiet or json_),
        )  # fmt: skip
        return comparison.summary() if json_ else comparison.screen()

    _answer(work, debug=debug, as_json=json_)


@app.command()
def archs(
    dims: Annotated[int, typer.Option(help="2 or 3.", min=2, max=3)] = 2,
    shape: Annotated[
        Text,
        typer.Option(help="Input that memory is told for: H,W or D,H,W. Default: 224,224 or 96,96,96."),
    ] = None,
    batch_size: Annotated[Number, typer.Option(help="Scans a step that memory is told for. Default: 16 or 4.")] = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """List the backbones: parameters, features, known weights, memory of a training step.

    Example: medres archs --dims 3 --shape 64,64,64 --batch-size 8
    """

    def work() -> Any:
        from medres import workflows

        sizes = None if shape is None else workflows.parse_shape(shape)
        found = workflows.archs(spatial_dims=dims, shape=sizes, batch_size=batch_size)
        return found.summary() if json_ else found.screen()

    _answer(work, debug=debug, as_json=json_)


@app.command()
def phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    modality: Annotated[str, typer.Option(help="CT or MR.")] = "CT",
    dims: Annotated[int, typer.Option(help="2 (PNG slices) or 3 (NIfTI volumes).", min=2, max=3)] = 3,
    scans: Annotated[int, typer.Option(help="Number of scans.", min=2)] = 60,
    classes: Annotated[int, typer.Option(help="Number of classes.", min=2)] = 2,
    size: Annotated[int, typer.Option(help="Voxels along each axis.", min=16)] = 48,
    signal: Annotated[float, typer.Option(help="How visible the classes are; 0 = not at all.", min=0)] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.", min=0)] = 0,
    debug: Debug = False,
) -> None:
    """Write synthetic labelled CT or MR scans, to try medres without patients.

    Example: medres phantoms demo/ --modality CT --scans 60
    """

    def work() -> Any:
        from medres import workflows

        return workflows.phantoms(
            folder, modality=modality, spatial_dims=dims, num_scans=scans, num_classes=classes, size=size,
            signal=signal, seed=seed,
        )  # fmt: skip

    _answer(work, debug=debug, as_json=False)


@weights_app.command("fetch")
def weights_fetch(
    arch: Annotated[str, typer.Argument(help="Backbone, such as resnet50.")],
    to: Annotated[Path, typer.Option(help="Folder to carry to the machine without internet ($MEDRES_WEIGHTS_DIR).")],
    weights: Annotated[str, typer.Option(help="imagenet, medicalnet, a timm tag or hf-hub:NAME.")] = "imagenet",
    dims: Annotated[int, typer.Option(help="2 or 3.", min=2, max=3)] = 2,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Download weights for a machine without internet, check them, and print their SHA-256.

    Example: medres weights fetch resnet50 --to weights/
    """

    def work() -> Any:
        from medres import workflows

        fetched = workflows.fetch_weights(arch, to=to, weights=weights, dims=dims)
        return fetched.summary() if json_ else fetched.screen()

    _answer(work, debug=debug, as_json=json_)


@track.command("sync")
def track_sync(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    tracking_uri: Uri = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Send to MLflow what did not arrive during a run; running it twice changes nothing."""

    def work() -> Any:
        from medres import workflows

        summary = workflows.track_sync(run, tracking_uri=tracking_uri, progress=_progress(quiet=json_))
        return summary.summary() if json_ else summary.screen()

    _answer(work, debug=debug, as_json=json_)


def run() -> None:
    """Run the command line and leave with its exit code."""
    # a batch system ends a job with SIGTERM: leave through the same doors as an error, so that no run stays open
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    make_warnings_printable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that the terminal cannot show must not end a report
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        from medres import workflows

        workflows.leave_together(end.code)
        raise


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


_KEPT = "What was finished is in the run folder."
_SHARED = frozenset({"config", "assignments", "resume", "fold", "json_", "quiet", "debug"})


class _Answer(NamedTuple):
    """What to print, and the exit code where it is not 0."""

    shown: Any
    exit_code: int


def _together(work: Callable[[], Any], *, as_json: bool) -> Any:
    """Do the work with the processes that this one was started with; one of them has the answer."""
    from medres import workflows

    with workflows.together() as ranks:
        done = work()
        if not ranks.is_first:
            return None
        return done.summary() if as_json else done.screen()


def _progress(*, quiet: bool) -> Any:
    from medres.reporting.terminal import TerminalProgress

    return TerminalProgress(quiet=quiet)


def _answer(work: Callable[[], Any], *, debug: bool, as_json: bool, left: str = "") -> None:
    """Print what the work returns; a refusal becomes one message and an exit code, never a traceback.

    ``left`` says where the work of an interrupted command is, for those that leave some.
    """
    try:
        answer = work()
    except MedresError as error:
        _fail(str(error), code=error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail(f"Interrupted. {left}".strip(), code=130, debug=debug)
    except Exception as error:
        _fail(_about(error), code=1, debug=debug)
    else:
        if answer is not None:  # as beside the first of several processes
            _print(answer.shown if isinstance(answer, _Answer) else answer, as_json=as_json)
        if isinstance(answer, _Answer) and answer.exit_code:
            raise typer.Exit(answer.exit_code)


def _again(error: Exception) -> str:
    """Return how the same is met again; a run that was begun would refuse the command that began it."""
    notes = getattr(error, "__notes__", [])
    return f"Go on with: {notes[-1]}" if notes else "Run it again"


def _about(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # of any argument that is a path
        return f"No file system takes so long a name: {str(error.filename)[:60]}... Check the path."
    return (
        f"medres met something it did not expect: {type(error).__name__}: {error}. "
        f"{_again(error)} with --debug, and report the traceback."
    )


def _print(answer: Any, *, as_json: bool) -> None:
    if as_json:
        # escapes of JSON where the terminal has not all characters; UTF-8 has, but for names that are no text
        encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
        typer.echo(printable_json(json.dumps(answer, indent=1, ensure_ascii=encoding != "utf8")))
        return
    from medres.reporting.console import printable_console

    # rich takes 80 columns where there is no terminal; tables of scores need a little more
    console = printable_console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 110)
    # a command that is to be copied stays on one line
    console.print(answer, highlight=False, soft_wrap=isinstance(answer, str))


def _fail(message: str, *, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"medres: {printable_message(message)}", err=True)
    raise typer.Exit(code)
