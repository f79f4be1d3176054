"""How stored voxels become the network's input: scheme, CT windows or scale, and the channels."""

from __future__ import annotations

from medres.data.statistics import Modality
from medres.data.wording import range_text
from medres.errors import PlanError
from medres.planning.choice import Choice, by_wish
from medres.planning.facts import BackboneFacts
from medres.planning.fingerprint import Fingerprint
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import CT_WINDOWS_HU, Intensity, IntensityScheme, Windows

#: Three windows fill the three channels of a pretrained stem. Together they cover -1350 to 1300 HU, and soft tissue
#: keeps a contrast of 1/400 a HU, five times that of the one window "wide".
BODY_WINDOWS: Windows = ("lung", "soft_tissue", "bone")

#: The same where there is no lung: 80 HU of the brain (or of an organ) get a channel of their own.
HEAD_WINDOWS: Windows = ("brain", "soft_tissue", "bone")

#: Lung lies between -950 and -700 HU, fat at -100: where not even the 1st percentile is below this, there is neither
#: lung nor air. (Percentiles are of all voxels: the air around a head cannot be told from lung.)
_LUNG_BELOW_HU = -400.0

#: Scans share one scale if their widths lie within this factor of each other, and their lower ends within so many
#: widths: gains multiply widths, and an offset of its own a scan would leave the others a small part of the range.
_COMMON_SCALE = 2.0
_COMMON_OFFSET = 4.0

#: A small bright sign is not cut off: the range of all values counts unless it is more than so many times the range
#: without the darkest and brightest 0.5 % of each scan (metal, a hot pixel).
_FEW_EXTREMES = 2.0

_EIGHT_BIT = (0.0, 255.0)
_EIGHT_BIT_DTYPES = frozenset({"uint8", "int8"})
_USED_EIGHT_BIT = 64
_UNIT = (0.0, 1.0)


def choose_modality(fingerprint: Fingerprint, *, wishes: PlanOverrides) -> Choice[Modality]:
    """Return the modality that decides about foreground and intensity."""
    if wishes.modality is None:
        return Choice(fingerprint.modality, fingerprint.evidence)
    return by_wish(wishes.modality, key="modality", instead_of=f"{fingerprint.modality}. {fingerprint.evidence}")


def choose_intensity(
    fingerprint: Fingerprint, *, modality: Modality, backbone: BackboneFacts, wishes: PlanOverrides,
    neighbours: int = 1,
) -> tuple[Choice[Intensity], Choice[int]]:  # fmt: skip
    """Return the intensity scheme and the number of input channels; the last depends on the first.

    Raises:
        PlanError: The user asks for windows or a scale that the scheme does not have.
    """
    scheme = _choose_scheme(fingerprint, modality, wishes)
    _require_use(scheme.value, modality, wishes)
    windows, range_ = _windows(scheme.value, fingerprint, wishes), _scale_range(scheme.value, fingerprint, wishes)
    channels = _channels(windows.value, fingerprint, neighbours)
    mean, std, statistics = _input_statistics(backbone, channels.value)
    intensity = Intensity(scheme=scheme.value, windows_hu=windows.value, scale_range=range_.value, mean=mean, std=std)
    reasons = (scheme.reason, windows.reason, range_.reason, statistics)
    return Choice(intensity, " ".join(filter(None, reasons))), channels


def _choose_scheme(fingerprint: Fingerprint, modality: Modality, wishes: PlanOverrides) -> Choice[IntensityScheme]:
    chosen = _scheme_by_data(fingerprint, modality)
    wished = wishes.scheme or ("scaled" if wishes.scale_range else None)
    if wished is None:
        return chosen
    key = "scheme" if wishes.scheme else "scale_range"
    return by_wish(wished, key=key, instead_of=f"{chosen.value}. {chosen.reason}")


def _scheme_by_data(fingerprint: Fingerprint, modality: Modality) -> Choice[IntensityScheme]:
    if modality == "CT":
        return Choice("hu_windows", "CT: Hounsfield units mean the same in every scan, windows keep that.")
    if _is_eight_bit(fingerprint):
        return Choice("scaled", f"All {fingerprint.num_scans} scans are 8-bit: one scale, 0 to 255.")
    if modality == "MR":
        return Choice("robust_zscore", "MR: its units differ from scan to scan, so each is standardised by itself.")
    if len(fingerprint.sequences) > 1:
        return Choice("robust_zscore", "Sequences have each a scale of its own: each is standardised by itself.")
    return _scheme_by_scale(fingerprint)


def _scheme_by_scale(fingerprint: Fingerprint) -> Choice[IntensityScheme]:
    width, bottom = fingerprint.width, fingerprint.percentiles.get("0.5", fingerprint.minimum)
    found = (
        f"values cover {width.p5:g} to {width.p95:g}, their lower ends run from "
        f"{range_text(bottom.p5, bottom.p95)} (5 % and 95 % of the scans)"
    )
    one_gain = width.p95 <= _COMMON_SCALE * width.p5
    one_offset = bottom.p95 - bottom.p5 <= _COMMON_OFFSET * width.median or width.p95 == 0
    if one_gain and one_offset and not _is_mixed_with_ct(fingerprint):
        return Choice("scaled", f"The scans share one scale: their {found}.")
    return Choice(
        "robust_zscore", f"The scans do not share one scale (their {found}), so each is standardised by itself."
    )


def _is_mixed_with_ct(fingerprint: Fingerprint) -> bool:
    return "CT" in fingerprint.modalities and len(fingerprint.modalities) > 1


def _is_eight_bit(fingerprint: Fingerprint) -> bool:
    """Return whether scans are stored in 8 bits and use them; masks of 0 and 1 have a scale of their own.

    It is the storage that tells: 0 to 255 in a wider type may be the values of any unit.
    """
    low, high = fingerprint.minimum.minimum, fingerprint.maximum
    return set(fingerprint.dtypes) <= _EIGHT_BIT_DTYPES and low >= 0 and high.p95 >= _USED_EIGHT_BIT


def _require_use(scheme: IntensityScheme, modality: Modality, wishes: PlanOverrides) -> None:
    if wishes.windows is not None and scheme != "hu_windows":
        raise PlanError(
            f"planning.windows is {_named(wishes.windows)}, but the scans are read as {modality} with the scheme "
            f"{scheme}, which has no windows.",
            fix="Leave planning.windows out, or, if the voxels are Hounsfield units, set planning.modality=CT.",
        )
    if wishes.scale_range is not None and scheme != "scaled":
        raise PlanError(
            f"planning.scale_range is {list(wishes.scale_range)}, but the scheme {scheme} has no scale.",
            fix="Leave planning.scale_range out, or set planning.scheme=scaled.",
        )
    if wishes.scale_range is not None and wishes.scale_range[0] >= wishes.scale_range[1]:
        raise PlanError(
            f"planning.scale_range is {list(wishes.scale_range)}; the first must be below the second.",
            fix="Give [low, high] in the units of the files.",
        )


def _windows(scheme: IntensityScheme, fingerprint: Fingerprint, wishes: PlanOverrides) -> Choice[Windows]:
    if scheme != "hu_windows":
        return Choice((), "")
    chosen = _windows_by_content(fingerprint)
    if wishes.windows is None:
        return chosen
    if not wishes.windows:
        raise PlanError("planning.windows is empty.", fix=f"Name at least one of {', '.join(CT_WINDOWS_HU)}.")
    return by_wish(wishes.windows, key="windows", instead_of=f"{_named(chosen.value)}. {chosen.reason}")


def _windows_by_content(fingerprint: Fingerprint) -> Choice[Windows]:
    level = fingerprint.percentiles.get("1", fingerprint.minimum).median
    found = f"the 1st percentile of the median scan is {level:g} HU"
    if level < _LUNG_BELOW_HU:
        named = _named(HEAD_WINDOWS).replace(" ", "")
        reason = (
            f"Windows {_named(BODY_WINDOWS)} as channels: {found}, air or lung (heads: planning.windows=[{named}])."
        )
        return Choice(BODY_WINDOWS, reason)
    return Choice(HEAD_WINDOWS, f"Windows {_named(HEAD_WINDOWS)} as channels: {found}, so there is no lung.")


def _scale_range(
    scheme: IntensityScheme, fingerprint: Fingerprint, wishes: PlanOverrides
) -> Choice[tuple[float, float]]:
    if scheme != "scaled":
        return Choice(_UNIT, "")
    if wishes.scale_range is not None:
        return Choice(wishes.scale_range, f"The scale {list(wishes.scale_range)} was set by you.")
    if _is_eight_bit(fingerprint):
        return Choice(_EIGHT_BIT, "")
    return _range_of_the_data(fingerprint)


def _range_of_the_data(fingerprint: Fingerprint) -> Choice[tuple[float, float]]:
    (low, high), (robust_low, robust_high) = fingerprint.full_range, fingerprint.robust_range
    if low >= high:  # constant scans: any range that holds their value
        half = 0.5 * abs(low) or 0.5
        return Choice((low - half, low + half), f"All scans hold one value, {low:g}: any range that holds it.")
    why = "from the smallest to the largest value of the training scans"
    if high - low > _FEW_EXTREMES * (robust_high - robust_low) > 0:
        low, high = robust_low, robust_high
        why = "without the darkest and brightest 0.5 % of each scan, which reach much farther"
    return Choice((low, high), f"The scale {range_text(low, high)}: {why}, but for 5 % of the scans at each end.")


def _channels(windows: Windows, fingerprint: Fingerprint, neighbours: int) -> Choice[int]:
    of_one = _channels_of_one(windows, fingerprint)
    if neighbours == 1:
        return of_one
    return Choice(of_one.value * neighbours, f"{of_one.reason} Each of {neighbours} slices that lie side by side.")


def _channels_of_one(windows: Windows, fingerprint: Fingerprint) -> Choice[int]:
    sequences = fingerprint.sequences
    if windows:
        of_each = f" of each of the sequences {', '.join(sequences)}" if sequences else ""
        count = len(windows) * max(1, len(sequences))
        return Choice(count, f"One channel for each of the windows {_named(windows)}{of_each}.")
    if sequences:
        return Choice(len(sequences), f"One channel for each of the sequences {', '.join(sequences)}.")
    # by count, then the smaller number: two equal halves give the same plan in any order
    channels, count = min(fingerprint.num_channels.items(), key=lambda item: (-item[1], int(item[0])))
    kind = {"1": "are grey", "3": "are in true colour"}.get(channels, f"have {channels} channels")
    return Choice(int(channels), f"{count} of {fingerprint.num_scans} scans {kind}.")


def _input_statistics(backbone: BackboneFacts, channels: int) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    if not backbone.pretrained:
        return (0.5,), (0.5,), "Without pretrained weights inputs run from -1 to 1 (mean 0.5, std 0.5)."
    mean, std = backbone.input_mean, backbone.input_std
    if len(mean) in (1, channels):
        return mean, std, f"Mean and std are those that {backbone.weights_source} was trained with."
    # the stem is folded to the channels of the input by averaging over the colours: so are its statistics
    reason = (
        f"Mean and std are the averages over the {len(mean)} colours that {backbone.weights_source} was trained with."
    )
    return (_average(mean),), (_average(std),), reason


def _average(values: tuple[float, ...]) -> float:
    # without rounding, so that grey input meets the folded stem at exactly the statistics that it was folded with
    return values[0] if len(set(values)) == 1 else sum(values) / len(values)


def _named(windows: Windows) -> str:
    return ", ".join(window if isinstance(window, str) else f"[{window[0]:g}, {window[1]:g}]" for window in windows)
