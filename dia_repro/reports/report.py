"""Files of `report`: tables, pictures and `report.html`; imported when they are written."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

import dia_repro
from dia_repro.artifacts import ARTIFACTS, Drawing, TableValue
from dia_repro.artifacts.controls import NORM
from dia_repro.artifacts.explanation import Findings, gather
from dia_repro.artifacts.learning import learning
from dia_repro.artifacts.selection import Wanted
from dia_repro.artifacts.sizes import TABLES, sizes
from dia_repro.claims.evaluate import evaluate_claims
from dia_repro.claims.verdicts import ClaimVerdict
from dia_repro.errors import DiaReproError, UsageError
from dia_repro.execution.options import Selection, command_line
from dia_repro.rendering.cells import CELL_FIELDS, cell_records
from dia_repro.rendering.files import check_target, recording, write_text
from dia_repro.rendering.grid import Grid, make_grid
from dia_repro.rendering.html.page import Commands, Picture, Shown, make_page
from dia_repro.rendering.initial_scale import draw_initial_scale, scaled
from dia_repro.rendering.layout import Layout
from dia_repro.rendering.learning import draw_learning
from dia_repro.rendering.marks import (
    OF_ANOTHER,
)
from dia_repro.rendering.records import to_csv
from dia_repro.rendering.run_files import write_run_files
from dia_repro.rendering.sizes import draw_sizes
from dia_repro.rendering.tables import to_latex, to_markdown
from dia_repro.reports.chosen import Chosen, training_command
from dia_repro.reports.drawing import Pictures, drawing
from dia_repro.reports.options import Folders, Forests
from dia_repro.reports.replacing import (
    CURVES,
    FIGURE_KINDS,
    PICTURE_KINDS,
    SCALE,
    SIZES,
    TABLE_KINDS,
    alone_in,
    check_replaced,
    svg_of,
)
from dia_repro.results.bundle import BundleError, write_bundle
from dia_repro.results.database import Database
from dia_repro.results.queries import run_detail
from dia_repro.results.schema import DONE, State

PAGE = "report.html"  # in a bundle
ADDITIONAL = {
    SIZES: "Accuracy against parameters, Tables 3 to 5: the paper's and ours",
    SCALE: "Without batch normalisation: accuracy by the initial scale of residual branches",
    "table8-loss": "Table 8: training loss without batch normalisation, until it diverges",
}


@dataclass(frozen=True)
class Report:
    """A report to be written.

    Attributes:
        html: path of the page; None writes none.
        checkpoints: location of the runs' weights, which Figure 5 needs; None is the default.
        command: what is recorded as the command of Figure 5's analysis.
        on_table: gets each table before it is written.
    """

    chosen: Chosen
    layout: Layout
    folders: Folders
    html: Path | None
    checkpoints: str | None
    command: str
    on_table: Callable[[Grid], None] = lambda _grid: None

    def write(
        self, *, replace_others: bool = False, bundle: Path | None = None, weights: bool = False
    ) -> list[Path]:
        """Write tables, pictures and the page, and say so; return the files.

        Args:
            replace_others: whether results of other experiments may be replaced.
            bundle: also a ZIP file with them, the database and the runs' logs; must not exist.
            weights: whether the bundle has the runs' weights, too, where they are.

        Raises:
            UsageError: the bundle exists, weights are asked for without one, or the page would
                replace what is no file of a report.
            ReplacedError: there are results of other experiments, and they must not be replaced.
            ForeignFileError: a file that dia-repro has not written is in the place of one.
            BusyFolderError: another report is being written to one of the folders, or to the page.
            BundleError: a file was changed before it was in the bundle.
            OutputError: a file cannot be written, or one that would be replaced cannot be read.
        """
        if self.html:
            check_target(self.html)
        if bundle and bundle.exists():
            raise UsageError(f"{bundle} exists: a bundle overwrites nothing")
        if weights and not bundle:
            raise UsageError("weights go into a bundle: name its file, too")
        check_replaced(self.chosen, self.folders, self.html, replace_others=replace_others)
        written_to = {self.folders.table_of(artifact).parent for artifact in self.chosen.artifacts}
        written_to.add(self.folders.figures)
        with alone_in(sorted(written_to), self.html), recording() as written:
            # Again: another report may have come first.
            others = check_replaced(
                self.chosen, self.folders, self.html, replace_others=replace_others, said=True
            )
            files = self._write()
            self._remove([picture for picture in others if svg_of(picture) not in written])
            if bundle is None:
                return [*files.values()]
            count = self._bundle(bundle, files, written, weights=weights)
        self.chosen.dialogue.notice(f"Written: {bundle}, {count} files")
        return [*files.values(), bundle]

    def _remove(self, pictures: Sequence[Path]) -> None:
        """Remove pictures of other experiments that none of these takes the place of."""
        with_values = {artifact.name for artifact in self.chosen.artifacts}
        for picture in pictures:
            # No CSV is written next to any other picture: one of that name is a user's.
            for kind in FIGURE_KINDS if picture.name in with_values else PICTURE_KINDS:
                picture.with_name(f"{picture.name}.{kind}").unlink(missing_ok=True)
            self.chosen.dialogue.notice(f"Removed, {OF_ANOTHER}: {picture}, nothing replaces it")

    def _write(self) -> dict[str, Path]:
        """Write everything but the bundle; return the files by their names in one."""
        chosen, folders = self.chosen, self.folders
        with drawing(chosen.dialogue) as pictures:
            findings, drawn = self._write_artifacts(pictures)
            if any(table.name in findings for table in TABLES):
                values = sizes(chosen.database, chosen.wanted, chosen.selection.seeds)
                pictures.draw(folders.figures / SIZES, draw_sizes, values)
            if NORM.name in findings and scaled(findings[NORM.name]):
                pictures.draw(folders.figures / SCALE, draw_initial_scale, findings[NORM.name])
            pictures.begin()
            # Meanwhile, since it takes as long.
            verdicts = evaluate_claims(chosen.database, chosen.wanted) if self.html else ()
            claims = [claim for claim in verdicts if claim.artifact in {*findings, *ARTIFACTS}]
            additional = pictures.write()
        if self.html:
            write_page(self.html, chosen, findings, claims, drawn, additional)
        tables = [folders.table_of(found.value.artifact) for found in findings.values()]
        written = [table.with_suffix(f".{kind}") for table in tables for kind in TABLE_KINDS]
        written += [
            file.with_suffix(f".{kind}") for file in drawn.values() for kind in FIGURE_KINDS
        ]
        written += [file.with_suffix(f".{kind}") for file in additional for kind in PICTURE_KINDS]
        named = {f"{_kept_in(path, folders)}/{path.name}": path for path in written}
        return {**({PAGE: self.html} if self.html else {}), **named}

    def _write_artifacts(self, pictures: Pictures) -> tuple[dict[str, Findings], dict[str, Path]]:
        """Write tables and figures; return what was found by artifact, and figures' PNG files."""
        chosen, figures = self.chosen, self.folders.figures
        findings: dict[str, Findings] = {}
        drawn: dict[str, Path] = {}
        for artifact in chosen.artifacts:
            found = gather(chosen.database, chosen.told(artifact))
            findings[artifact.name] = found
            for name, measure in (CURVES[kind] for kind in artifact.drawings if kind in CURVES):
                if (curves := learning(found, measure)).seen:
                    pictures.draw(figures / f"{artifact.name}-{name}", draw_learning, curves)
            self._write_table(found.value)
            has_picture = artifact.is_figure or Drawing.HISTOGRAMS in artifact.drawings
            if has_picture and self._draw(found):
                drawn[artifact.name] = figures / f"{artifact.name}.png"
        return findings, drawn

    def _write_table(self, value: TableValue) -> None:
        """Write a table in every kind of file."""
        grid, target = make_grid(value, self.layout), self.folders.table_of(value.artifact)
        self.on_table(grid)
        files = {
            "csv": to_csv(CELL_FIELDS, cell_records(value)),
            "md": to_markdown(grid),
            "tex": to_latex(grid),
        }
        for suffix, text in files.items():
            write_text(target.with_suffix(f".{suffix}"), text)
        self.chosen.dialogue.notice(f"Written: {target}.{{csv,md,tex}}")

    def _draw(self, findings: Findings) -> bool:
        """Draw a figure from the best run of each of its networks; return whether there is one.

        An artifact that cannot be drawn does not stop the others.
        """
        artifact, chosen, figures = findings.value.artifact, self.chosen, self.folders.figures
        runs = [best.id for known in findings.experiments.values() if (best := known.best_run)]
        if not runs:
            return False
        from dia_repro.reports.pictures import draw_gradients, draw_integration, make_analyst

        asked = replace(chosen.selection, seeds=None, attention=())
        judged_by = command_line("claims", artifact.name, options=asked)
        said: dict[str, Any] = {"dialogue": chosen.dialogue, "judged_by": judged_by}
        try:
            for kind in artifact.drawings:
                match kind:
                    case Drawing.HEATMAP:
                        place, run = self.checkpoints, runs[0]
                        analyst = make_analyst(
                            chosen.database, chosen.data, place, self.command, run
                        )
                        draw_integration(analyst, figures, Forests(), guarded=False, **said)
                    case Drawing.HISTOGRAMS:
                        recorded = _with_gradients(findings, chosen.database)
                        draw_gradients(
                            chosen.database, figures, recorded, artifact, guarded=False, **said
                        )
                    case Drawing.ACCURACY | Drawing.LOSS:  # learning curves: `CURVES`
                        pass
                    case _:
                        assert_never(kind)
        except DiaReproError as error:
            chosen.dialogue.notice(f"{artifact.name} is not drawn: {error}")
            return False
        return True

    def _bundle(
        self, target: Path, files: Mapping[str, Path], written: Mapping[Path, str], *, weights: bool
    ) -> int:
        """Write a bundle of these files and of the runs' logs; return how many files it has.

        Args:
            written: the SHA-256 of each file when it was written.

        Raises:
            BundleError: another program has changed one since.
        """
        database = self.chosen.database
        found = [gather(database, self.chosen.value(a)) for a in self.chosen.artifacts]
        runs = sorted({run.id for findings in found for run in findings.runs if run.state in DONE})
        with tempfile.TemporaryDirectory(prefix="dia-repro-") as folder:
            stored = _stored(database, self.checkpoints) if weights else None
            own = write_run_files(database, runs, Path(folder), stored)
            copies = {name: Path(folder, "report", name) for name in files}
            for name, path in files.items():
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() != written[path]:
                    raise BundleError(f"{path} was changed after this report had written it")
                copies[name].parent.mkdir(parents=True, exist_ok=True)
                copies[name].write_bytes(content)
            return write_bundle(database, target, {**own, **copies})


def _kept_in(path: Path, folders: Folders) -> str:
    """Return the folder of a file in a bundle."""
    return "figures" if path.parent == folders.figures else "tables"


def _stored(database: Database, location: str | None) -> Callable[[int], bytes | None]:
    """Return what gives a run's weights as a file of safetensors; None where there are none."""
    from safetensors.torch import save

    from dia_repro.analysis.states import NoWeightsError
    from dia_repro.analysis.weights import stored_weights
    from dia_repro.execution.maintenance import folder_of, reachable_store

    store = reachable_store(database, location)

    def stored(number: int) -> bytes | None:
        run = run_detail(database, number)
        try:
            return save(*stored_weights(run, folder_of(store, run.summary)))
        except NoWeightsError:
            return None

    return stored


def _with_gradients(findings: Findings, database: Database) -> list[int]:
    """Return the finished runs that have recorded gradients.

    Raises:
        NotAnalysableError: there is none.
    """
    from dia_repro.analysis.gradients import whole_records
    from dia_repro.analysis.runs import NotAnalysableError

    recorded = [
        behind.run.id
        for known in findings.experiments.values()
        for behind in known.runs
        if behind.run.state is State.FINISHED and whole_records(database, behind.run.id, known.spec)
    ]
    if not recorded:
        raise NotAnalysableError("no run has recorded gradients: only networks without skips do")
    return recorded


def write_page(
    path: Path,
    chosen: Chosen,
    detailed: Mapping[str, Findings],
    claims: Sequence[ClaimVerdict],
    drawn: Mapping[str, Path],
    additional: Sequence[Path] = (),
) -> None:
    """Write the page.

    Args:
        detailed: by artifact, those that are shown whole; the overview has all artifacts.
        drawn: by artifact, the PNG files of the paper's figures.
        additional: PNG files of pictures that the paper does not have; those that the page's
            charts show are left out.
    """
    others = {
        name: gather(chosen.database, chosen.value(artifact))
        for name, artifact in ARTIFACTS.items()
        if name not in detailed
    }
    page = make_page(
        version=dia_repro.__version__,
        findings=[{**others, **detailed}[name] for name in dict.fromkeys([*ARTIFACTS, *detailed])],
        shown=[_shown(found, chosen.wanted, drawn.get(name)) for name, found in detailed.items()],
        claims=claims,
        additional=[
            _picture(file, ADDITIONAL[file.stem]) for file in additional if file.stem in ADDITIONAL
        ],
    )
    write_text(path, page)
    chosen.dialogue.notice(f"Written: {path}")


def _shown(findings: Findings, wanted: Wanted, picture: Path | None) -> Shown:
    """Return an artifact with its picture, and the commands that train and explain its cells."""
    value, artifact, seeds = findings.value, findings.value.artifact, findings.value.seeds
    data = wanted.data.spec if wanted.data else None
    selection = Selection(
        epochs=wanted.epochs,
        rate=wanted.rate,
        select=wanted.select,
        precision=wanted.precision,
        # A user's images by name, not by a path of this machine.
        dataset=data.dataset if data else None,
        image_size=data.image_size if data and data.content_hash is not None else None,
        attention=tuple(attention.text for attention in artifact.attention),
    )
    explained = replace(
        selection, protocol=value.request.protocol, seeds=seeds if seeds.chosen else None
    )
    whole = replace(explained, seeds=None if seeds.numbers == (0,) else seeds)
    alt = f"{artifact.label}. {artifact.paper.title}, from our runs"
    return Shown(
        findings,
        command_line("run", artifact.name, options=whole),
        {
            place: Commands(
                training_command(value, experiment, selection),
                command_line("explain", artifact.name, *place, options=explained),
            )
            for place, experiment in findings.experiments.items()
        },
        [_picture(picture, alt)] if picture else [],
    )


def _picture(file: Path, alt: str) -> Picture:
    """Return the SVG next to a PNG where that is the smaller one: it is sharp at any size."""
    drawing = file.with_suffix(".svg")
    if drawing.exists() and drawing.stat().st_size < file.stat().st_size:
        return Picture("svg", drawing.read_bytes(), alt)
    return Picture("png", file.read_bytes(), alt)
