"""What the files of a run say, as one page in the order of the CLAIM checklist and as a model card.

CLAIM is the Checklist for Artificial Intelligence in Medical Imaging: Mongan et al. 2020, Radiology: Artificial
Intelligence 2:e200029; its 44 items, their numbers and their order are those of the 2024 update, Tejani et al. 2024,
Radiology: Artificial Intelligence 6:e240300. The model card has the form that Hugging Face reads.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml
from mammo.core import files, predictions, settings, stage
from mammo.core.errors import UserError
from mammo.reporting.document import (
    Block,
    Drawing,
    Html,
    Item,
    Pictures,
    Points,
    Score,
    Scores,
    Section,
    Table,
    ToFillIn,
    as_markdown,
    bar,
    element,
    markdown,
    page,
    score,
)
from mammo.scoring import TITLES

AUTHORS = ToFillIn()
CLAIM = (
    "Order and numbers are those of CLAIM, the Checklist for Artificial Intelligence in Medical Imaging (Mongan et al. "
    "2020; 2024 update: Tejani et al., Radiology: Artificial Intelligence 6:e240300)."
)
RESEARCH_ONLY = "Research only: not a medical device. Nothing here may be used to decide about anyone."
RULES = {
    "balanced_accuracy": "highest balanced accuracy on validation",
    "half": "0.5, fixed",
    "specificity_90": "specificity of at least 90 % on validation",
    "specificity_95": "specificity of at least 95 % on validation",
    "sensitivity_90": "sensitivity of at least 90 % on validation",
}
NETWORKS = {
    "baseline": "Conv2D(16, 5, ReLU), MaxPooling2D(2), Conv2D(32, 3, ReLU), MaxPooling2D(2), Flatten, Dense(16, ReLU), "
    "Dense(8, ReLU), Dense(2, softmax)",
    "compact": "Conv2D(16, 5, stride 2), three residual blocks of two Conv2D(3) with 32, 64 and 128 maps at half the "
    "resolution each, batch-normalised, mean and maximum of the maps, Dropout, Dense(2, softmax)",
    "EfficientNetLite0": "EfficientNet-Lite0 (Tan and Le 2019) without its last stage, means of the maps that each "
    "stage ends with, standardised, Dense(2, softmax)",
}
STEPS = {
    "right_inverted": "black on white turned over",
    "blacken_outside": "all but the breast blackened",
    "crop": "cropped to the breast, its aspect kept",
    "chest_wall_left": "mirrored where the chest wall was on the right",
}
LEAKS = {
    "patients_in_several_splits": "Patients in more than one split",
    "test_images_of_training_patients": "Test images of patients seen in training",
    "valid_images_of_training_patients": "Validation images of patients seen in training",
    "same_image_across_splits": "The same image in two splits",
}
APPEARANCES = {
    "inverted": "Black and white exchanged",
    "marked": "Text or markers outside the breast",
    "no_breast": "No breast to be seen",
}
EXPLANATIONS = {
    "true_positives": "Images with cancer that were called, whose lesion is known",
    "pointing_game": "The map's peak lies in the lesion (pointing game)",
    "chance": "Share of points anywhere in the breast that lie in it",
    "other_patients_peaks": "Share of other patients' peaks that lie in it",
    "randomised_network": "Map of the network with random weights",
}
NOT_THE_MODELS = ("shortcut_roc_auc", "majority_accuracy")  # what the model's scores are to be compared with
HUB_METRICS = {"sensitivity": "recall"}  # the Hub's name where it differs from ours
MOST_CERTAIN = 5  # mistakes of either kind that are listed


@dataclass(frozen=True)
class Run:
    """What the files of a run say."""

    card: Mapping[str, Any]
    """data/model/model.json."""
    settings: Mapping[str, Mapping[str, Any]]
    """params.yaml."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Every file of metrics/, by its name without ending."""
    findings: Sequence[Mapping[str, str]]
    """plots/audit.csv."""
    predictions: Sequence[Mapping[str, str]]
    """plots/predictions.csv."""
    decision: Sequence[Mapping[str, str]]
    """plots/decision.csv."""
    plots: Path
    """Where the pictures lie."""

    @property
    def phantoms(self) -> bool:
        """Whether the images are synthetic."""
        return self.card["trained_on"]["source"] == "phantom"

    @property
    def leak(self) -> str:
        """What the audit says of a leak; empty where there is none."""
        return self.card["audit"]["sentence"] if self.card["audit"]["leaking"] else ""

    @property
    def scores(self) -> dict[str, Score]:
        """The headline scores by key, in the order of metrics/test.json."""
        found = {}
        for key, entry in self.metrics["test"].items():
            if isinstance(entry, dict) and "low" in entry:
                title = TITLES.get(key, key.replace("_", " "))
                found[key] = score(title[0].upper() + title[1:], entry)
        return found

    @property
    def size(self) -> str:
        """Height and width of what the network sees."""
        return " × ".join(map(str, self.card["preprocess"]["size"]))

    @property
    def threshold(self) -> float:
        """At and above which an image is called cancer."""
        return self.metrics["test"]["threshold"]["value"]


def main(model: Path, metrics: Path, plots: Path, report: Path) -> None:
    """Write REPORT/report.html and REPORT/model_card.md from what the run left in MODEL, METRICS and PLOTS."""
    run = read(model, metrics, plots)
    try:
        html, card = as_page(run), as_model_card(run)
    except KeyError as error:
        raise UserError(
            f"{model}, {metrics} or params.yaml lacks {error}: they are not of one run; run `dvc repro`"
        ) from error
    files.write_text(report / "report.html", html)
    files.write_text(report / "model_card.md", card)
    print(f"report: {report / 'report.html'}")


def read(model: Path, metrics: Path, plots: Path) -> Run:
    """All files but the pictures.

    Raises:
        UserError: one is missing or malformed.

    """
    names = ("preprocess", "audit", "train", "test", "operating_points", "calibration", "explanation")
    return Run(
        card=files.read_json(model / "model.json"),
        settings=settings.read().model_dump(),
        metrics={name: files.read_json(metrics / f"{name}.json") for name in names},
        findings=files.read_csv(plots / "audit.csv", ("kind", "severity", "image", "detail")),
        predictions=files.read_csv(plots / "predictions.csv", predictions.COLUMNS),
        decision=files.read_csv(plots / "decision.csv", ("threshold", "model", "low", "high", "treat_all")),
        plots=plots,
    )


# What is said in both forms


def notices(run: Run) -> list[tuple[str, str]]:
    """Kind and text of what is to be read before all else: a leak first."""
    found = [("research", RESEARCH_ONLY)]
    if run.phantoms:
        found.insert(0, ("phantoms", "These are phantoms, synthetic mammograms: the scores say nothing about women."))
    if run.leak:
        meaning = "The scores are no measure of how the network does on patients it has never seen."
        found.insert(0, ("leak", f"{run.leak} {meaning}"))
    return found


def source(run: Run) -> str:
    """Where the images come from."""
    data = run.settings["data"]
    if run.phantoms:
        return f"Phantoms: synthetic mammograms drawn by this pipeline (data.phantom, seed {data['phantom']['seed']})."
    if run.card["trained_on"]["source"] == "kaggle":
        return f"The Kaggle data set {data['kaggle']}."
    return f"A folder of the user's own images ({without_place(data['folder'])})."


def without_place(folder: str) -> str:
    """A folder's path; of one outside the project only its name, since the rest tells of the machine."""
    if Path(folder).is_absolute() or PureWindowsPath(folder).is_absolute() or folder.startswith(("~", "..")):
        return f"…/{PureWindowsPath(folder).name}"
    return folder


def about(run: Run) -> str:
    """The scored data in a few words."""
    images = run.metrics["test"]["images"]
    kind = "phantoms" if run.phantoms else "mammograms"
    patients = run.metrics["test"]["patients"]["value"]
    total = images["healthy"] + images["cancer"]
    return f"{total:,} test images ({kind}) of {patients:,} patients; {images['cancer']:,} images show cancer"


def verdict(run: Run) -> str:
    """The network beside what brightness alone achieves."""
    network, forest = run.scores["roc_auc"], run.scores["shortcut_roc_auc"]
    beside = f"The network's ROC AUC is {network}, that of a forest on brightness alone, without any anatomy, {forest}"
    if network.low > forest.high:
        return f"{beside}; the intervals do not overlap."
    return f"{beside}; the intervals overlap: this run does not show that the network sees more than brightness."


def limits(run: Run) -> list[str]:
    """What a reader of the scores must know, from this run's own figures."""
    found = [text for kind, text in notices(run) if kind != "research"]
    scores, images = run.scores, run.metrics["test"]["images"]
    found.append(verdict(run))
    accuracy, commoner = scores["accuracy"], scores["majority_accuracy"]
    if accuracy.low <= commoner.value:
        found.append(
            f"Accuracy, {accuracy}, is not shown to be above that of always saying the commoner class, {commoner}."
        )
    found += [
        f"From the audit: {row['detail']}." for row in run.findings if row["severity"] == "warning" and not row["image"]
    ]
    found.append("The test images are of the same source as those of training; no external data were tested.")
    found.append(
        "Accuracy, precision, average precision, F1 and net benefit hold for the case mix of the test split: "
        f"{images['healthy']} healthy images, {images['cancer']} with cancer."
    )
    if not run.phantoms:
        found.append("The labels are taken as delivered; the pipeline cannot check them.")
    found.append(f"The network sees {run.size} pixels of one image: neither finer detail nor the other views.")
    if run.card["network"] == "baseline":
        found.append("The network has no translation invariance: where in the image a lesion lies matters to it.")
    return found


def splits(run: Run) -> Table:
    """Images and patients by split, with the interval that their number lets expect."""
    rows = [
        (
            split,
            f"{number['healthy_images']:,}",
            f"{number['cancer_images']:,}",
            f"{number['patients']:,}",
            f"{number['patients_with_cancer']:,}",
        )
        for split, number in run.metrics["audit"]["splits"].items()
    ]
    return Table(("Split", "Images, healthy", "Images, cancer", "Patients", "of them with cancer"), rows)


def operating_points(run: Run) -> Table:
    """Sensitivity and specificity at every threshold locked on validation."""
    chosen = run.settings["evaluate"]["threshold"]
    rows = [
        (
            RULES.get(rule, rule) + (" (in force)" if rule == chosen else ""),
            f"{point['threshold']:.3f}",
            score("sensitivity", point["sensitivity"]),
            score("specificity", point["specificity"]),
        )
        for rule, point in run.metrics["operating_points"].items()
    ]
    return Table(("Threshold chosen for", "Threshold", "Sensitivity", "Specificity"), rows)


def calibration(run: Run) -> Scores:
    """Calibration scores; 0 is best."""
    entries = run.metrics["calibration"].items()
    return Scores([score(f"{TITLES.get(key, key).capitalize()} (0 is best)", entry) for key, entry in entries])


def settings_in_force(run: Run) -> Table:
    """params.yaml without the settings of sources that were not used."""
    unused = {"phantom": ("kaggle", "folder"), "kaggle": ("folder", "phantom"), "folder": ("kaggle", "phantom")}
    rows = []
    for section, content in run.settings.items():
        for key, value in leaves(content, section):
            if any(key.startswith(f"data.{name}") for name in unused[run.settings["data"]["source"]]):
                continue
            rows.append((key, without_place(value) if key == "data.folder" else plain(value)))
    return Table(("Setting", "Value"), rows)


def leaves(content: Any, above: str) -> list[tuple[str, Any]]:
    """Dotted key and value of everything within that is no section itself."""
    if not isinstance(content, Mapping):
        return [(above, content)]
    return [leaf for key, value in content.items() for leaf in leaves(value, f"{above}.{key}")]


def plain(value: Any) -> str:
    """A value as params.yaml has it."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )


def training(run: Run) -> list[str]:
    """How the network was fitted."""
    train, augment = run.settings["train"], run.settings["augment"]
    weights = "both classes count the same" if train["class_weight"] == "balanced" else "not weighted by class"
    normalised = (
        " Batch normalisation stood before the two dense ReLUs and was folded into their weights afterwards."
        if run.card["network"] == "baseline"
        else ""
    )
    decay = train["weight_decay"]
    optimizer = f"AdamW, weight decay {plain(decay)}" if decay else "Adam"
    falls = ", rising and then falling to 0 by a cosine" if train["schedule"] == "cosine" else ""
    smoothed = f", labels smoothed by {plain(train['label_smoothing'])}" if train["label_smoothing"] else ""
    ended = (
        f"{train['epochs']} epochs; the weights are the mean of those after each of the last {train['average']}."
        if train["average"]
        else f"At most {train['epochs']} epochs, ended after {train['patience']} without a better validation ROC AUC; "
        f"{run.metrics['train']['epochs']} were run."
    )
    twice = (
        f" A probability is the mean of that of the image and that of its {train['flip_at_test']} mirror image."
        if train["flip_at_test"] != "none"
        else ""
    )
    return [
        f"{optimizer}, learning rate {plain(train['learning_rate'])}{falls}, batches of {train['batch']} images, "
        f"cross-entropy ({weights}{smoothed}), arithmetic in {train['precision']}. {ended}{normalised}{twice}",
        "Training images were changed at random, anew in each epoch: turned by up to "
        f"{plain(augment['rotation_range'])}° either way, shifted by up to {percent(augment['width_shift_range'])} of "
        f"the width and {percent(augment['height_shift_range'])} of the height, scaled by up to "
        f"{percent(augment['zoom_range'])} in each direction{restyled(augment)}.",
    ]


def restyled(augment: Mapping[str, Any]) -> str:
    """What else is done to training images, if anything."""
    said = [f"mirrored ({way}) in half of the draws" for way in ("horizontal", "vertical") if augment[f"{way}_flip"]]
    if augment["intensity_range"]:
        said.append(f"changed in brightness and gamma (intensity_range {plain(augment['intensity_range'])})")
    if augment["erase"]:
        said.append(f"blackened in a random rectangle in {percent(augment['erase'])} of draws")
    return "".join(f", {one}" for one in said)


def canonical(run: Run) -> str:
    """What was done to make scans alike, if anything."""
    taken = [words for step, words in STEPS.items() if run.card["preprocess"]["canonical"].get(step)]
    return f"Scans are made alike before: {', '.join(taken)}. " if taken else ""


def percent(share: float) -> str:
    """`0.1` as `10 %`, which no line breaks."""
    return f"{100 * share:g}\N{NO-BREAK SPACE}%"


# The checklist


def as_page(run: Run) -> str:
    """report.html."""
    sections = [
        Section("Title and abstract", title_and_abstract(run)),
        Section("Introduction", introduction()),
        Section("Methods: study and data", [*study(run), *data(run)]),
        Section("Methods: reference standard", reference_standard(run)),
        Section("Methods: partitions", partitions(run)),
        Section("Methods: model and training", [*network(run), *fitting(run)]),
        Section("Methods: evaluation", evaluation(run)),
        Section("Results", results(run)),
        Section("Discussion", discussion(run)),
        Section("Other information", other_information(run)),
        Section("Settings of this run", blocks=[settings_in_force(run)]),
    ]
    items = [item for section in sections for item in section.items]
    title = f"Mammograms, healthy or cancer: report on the network {run.card['network']}"
    return page(("LEAKING · " if run.leak else "") + title, notices(run), at_a_glance(run, items), sections)


def at_a_glance(run: Run, items: Sequence[Item]) -> list[Html]:
    """The headline scores and what the checklist still wants."""
    keys = ("roc_auc", "shortcut_roc_auc", "sensitivity", "specificity")
    figures = []
    for one in (run.scores[key] for key in keys):
        value, interval = str(one).split(" ")
        number = element("div", element("b", value), " ", element("span", interval))
        figures.append(element("div", element("h2", one.title), number, bar(one)))
    state = Counter(item.state for item in items)
    return [
        element("p", f"{about(run)}. Behind each value its 95 % interval."),
        element("div", *figures, class_="figures"),
        element(
            "p",
            f"{CLAIM} Of its {len(items)} items, {state['from the run']} are answered from the files of this run and "
            f"{state['in part']} in part; {state['authors']} only the authors can answer.",
        ),
    ]


def title_and_abstract(run: Run) -> list[Item]:
    """Items 1 and 2."""
    return [
        Item(
            1,
            "Identified as a study of artificial intelligence",
            ["Deep learning: a convolutional neural network calls single mammograms healthy or cancer."],
        ),
        Item(
            2,
            "Structured summary",
            [
                f"Data: {source(run)} {patients_and_images(run)}",
                f"Method: the network {run.card['network']} ({run.card['weights']:,} weights), fitted on the training "
                "split, chosen on the validation split, scored once on the test split.",
                f"Results: {verdict(run)} At the threshold locked on validation sensitivity "
                f"{run.scores['sensitivity']}, specificity {run.scores['specificity']}.",
                f"Conclusion: {RESEARCH_ONLY}",
            ],
        ),
    ]


def patients_and_images(run: Run) -> str:
    """How many there are in all splits together."""
    numbers = run.metrics["audit"]["splits"].values()
    images = sum(number["healthy_images"] + number["cancer_images"] for number in numbers)
    known = run.metrics["audit"]["patients"]
    unknown = known["images_without_patient"]
    without = f", and {unknown:,} images without a patient, each taken for a patient of its own" if unknown else ""
    return f"{images:,} images of {known['known']:,} patients{without}."


def introduction() -> list[Item]:
    """Items 3 and 4."""
    return [
        Item(
            3,
            "Background, intended use and role",
            [f"Intended use: {RESEARCH_ONLY}", ToFillIn("the scientific and clinical background")],
        ),
        Item(4, "Aims, objectives, hypotheses", [AUTHORS]),
    ]


def study(run: Run) -> list[Item]:
    """Items 5 and 6."""
    goal = "A model was made and tested on images of the same source that it had not been fitted on."
    if run.leak:
        goal += f" They are not independent of its training. {run.leak}"
    if run.phantoms:
        design: list[Block] = ["Neither: the images are drawn by a program."]
        goal += " On phantoms this shows that the pipeline works, and nothing about mammograms."
    else:
        design = [
            "The run takes images that exist already.",
            ToFillIn("whether they were collected for this study, prospectively, or before it"),
        ]
    return [Item(5, "Prospective or retrospective", design), Item(6, "Study goal", [goal])]


def data(run: Run) -> list[Item]:
    """Items 7 to 13."""
    unreadable = run.metrics["preprocess"]["unreadable"]["skipped"]
    skips = run.settings["preprocess"]["on_unreadable"] == "skip"
    missing = (
        f"Images that cannot be read are left out: {unreadable:,} in this run."
        if skips
        else "An image that cannot be read stops the run: none was left out."
    )
    nameless = run.metrics["audit"]["patients"]["images_without_patient"]
    phantom = run.settings["data"]["phantom"]

    def known(of_phantoms: str, of_images: Sequence[Block]) -> Sequence[Block]:
        return [of_phantoms] if run.phantoms else of_images

    return [
        Item(
            7,
            "Data sources",
            [
                f"{source(run)} {patients_and_images(run)}",
                *known(
                    "They stand for no population.",
                    [ToFillIn("how well the images match the population that the model is meant for")],
                ),
            ],
        ),
        Item(
            8,
            "Inclusion and exclusion",
            [
                f"Every image of the source was taken. {missing}",
                *known("Nothing was selected.", [ToFillIn("by which criteria the source itself was put together")]),
            ],
        ),
        Item(
            9,
            "Preprocessing",
            [
                f"{canonical(run)}Each image is made 8-bit grey and {run.size} pixels (height × width) large. "
                "Scaling to [0, 1] and by mean and standard deviation of the training images is part of the model "
                "itself.",
            ],
        ),
        Item(
            10,
            "Selection of parts of the data",
            [
                "The breast, as found by its outline; the network sees nothing else."
                if run.card["preprocess"]["canonical"].get("crop")
                else "None: the network sees the whole image."
            ],
        ),
        Item(
            11,
            "De-identification",
            known(
                "No patient stands behind a phantom.",
                [
                    "The pipeline removes nothing: file names and patient numbers stand in plots/predictions.csv as "
                    "delivered, and this page holds pictures of scans.",
                    ToFillIn("how the images were de-identified before"),
                ],
            ),
        ),
        Item(
            12,
            "Missing data",
            [f"{missing} Without a patient, and each taken for a patient of its own: {nameless:,} images."],
        ),
        Item(
            13,
            "Image acquisition",
            known(
                f"Drawn, not acquired: {phantom['size']} × {phantom['size']} pixels, craniocaudal and mediolateral "
                "oblique views.",
                [AUTHORS],
            ),
        ),
    ]


def reference_standard(run: Run) -> list[Item]:
    """Items 14 to 18."""
    titles = [
        "Definition of the reference standard",
        "Why this reference standard",
        "Source of the annotations",
        "Annotation of the test set",
        "Variability between and within annotators",
    ]
    if run.phantoms:
        phantom = run.settings["data"]["phantom"]
        drawn = (
            f"A spiculated mass was drawn into each image with cancer, but for {percent(phantom['occult'])} of these "
            "patients, whose cancer looks benign; every healthy image holds a benign mass."
            if phantom["lesions"]
            else "No lesion was drawn: both classes are alike and there is nothing to learn."
        )
        answers: list[Sequence[Block]] = [
            [f"The label is what was drawn. {drawn}"],
            ["It is exact: the program that draws the image knows what it draws."],
            ["The program that drew the images."],
            ["As that of all other images."],
            ["None: nobody annotated."],
        ]
    else:
        audit = run.metrics["audit"]
        contradictions = (
            f"The audit found {audit['same_image']['with_both_labels']:,} pairs of the same image with both labels and "
            f"{audit['patients']['with_both_labels']:,} patients with images of both labels."
        )
        answers = [
            ["0 healthy, 1 cancer, as delivered.", ToFillIn("how cancer and its absence were established")],
            [AUTHORS],
            ["The labels delivered with the images.", ToFillIn("who gave them, with which qualification")],
            ["As delivered, like that of all other images.", ToFillIn("how it was done")],
            [contradictions, ToFillIn("how often annotators agreed")],
        ]
    return [
        Item(number, title, blocks)
        for number, (title, blocks) in enumerate(zip(titles, answers, strict=True), start=14)
    ]


def partitions(run: Run) -> list[Item]:
    """Items 19 to 21."""
    split, audit = run.settings["split"], run.metrics["audit"]
    if split["by"] == "patient":
        how = (
            "By patient: the patients with and those without cancer are each ordered by a hash of seed "
            f"({split['seed']}) and patient and cut at the asked shares, {percent(split['valid'])} validation and "
            f"{percent(split['test'])} test."
        )
    else:
        how = "As delivered: the split of the source was kept."
    leaks = Table(
        ("What would make the partitions depend on each other", "Found"),
        [(words, f"{audit['leak'][key]:,}") for key, words in LEAKS.items()],
    )
    twice: Block = "The audit found no image twice: no same file, pixels or exposure, mirrored or inverted."
    if any(audit["same_image"].values()):
        rows = [(key.replace("_", " "), f"{count:,}") for key, count in audit["same_image"].items()]
        twice = Table(("Pairs of images that show the same exposure", "Found"), rows)
    state = run.leak or "Patients: the audit found no patient and no image in more than one partition."
    widths = Table(
        ("Split", "A ROC AUC of 0.75 would be known to"),
        [(name, f"±{number['expected_half_width_of_auc']:.3f}") for name, number in audit["splits"].items()],
    )
    sheets = audit_pictures(run, lambda kind: kind not in (*APPEARANCES, "shortcut", "splits"))
    return [
        Item(19, "How data were assigned to partitions", [how, splits(run)]),
        Item(20, "Level at which partitions are disjoint", [state, leaks, twice, findings(run), *sheets]),
        Item(
            21,
            "Intended sample size",
            [
                "From the numbers of patients alone (Hanley and McNeil 1982):",
                widths,
                *audit_pictures(run, lambda kind: kind == "splits"),
                ToFillIn("which sample size was intended, and why"),
            ],
        ),
    ]


def findings(run: Run) -> Table:
    """Every kind of finding of the audit, the worst first."""
    kinds = Counter((row["kind"], row["severity"]) for row in run.findings)
    rows = [(kind.replace("_", " "), severity, f"{count:,}") for (kind, severity), count in kinds.items()]
    return Table(("Findings of the audit", "Severity", "Number"), rows or [("none", "", "0")])


def audit_pictures(run: Run, wanted: Callable[[str], bool]) -> list[Block]:
    """The audit's pictures whose kind is `wanted`."""
    titles = {"splits": "classes by split", "shortcut": "brightness of healthy and cancer"}
    paths = [path for path in pictures(run.plots / "audit") if wanted(path.stem)]
    shown = [(path, f"Audit: {titles.get(path.stem, path.stem.replace('_', ' '))}") for path in paths]
    return [Pictures(shown)] if shown else []


def pictures(folder: Path) -> list[Path]:
    """The PNG files of a folder by name.

    Raises:
        UserError: there is no such folder.

    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: run `dvc repro`, or `dvc pull`")
    return sorted(folder.glob("*.png"))


def network(run: Run) -> list[Item]:
    """Items 22 to 24."""
    name, arithmetic = run.card["network"], run.card["arithmetic"]
    layers = f": {NETWORKS[name]}" if name in NETWORKS else ""
    drawn = " (He uniform; the last layer zero)" if name == "baseline" else ""
    seed = run.settings["train"]["seed"]
    taken = run.settings["train"]["weights"]
    fitted = "; it alone was fitted" if run.settings["train"]["frozen"] else ""
    start = (
        f"Initial weights: at random{drawn}, seed {seed}; no weights were taken from another training."
        if taken == "none"
        else f"Initial weights: {taken} (train.weights), the last layer zero{fitted}."
    )
    return [
        Item(
            22,
            "The model",
            [
                f"{name}, {run.card['weights']:,} weights{layers}.",
                f"Input: one grey image of {run.size} pixels. Output: the probability of cancer; at or above "
                f"{run.threshold:.3f} the image is called cancer. data/model/model.keras holds it all.",
            ],
        ),
        Item(
            23,
            "Software",
            [
                f"TensorFlow {arithmetic['tensorflow']}, Keras {arithmetic['keras']}; requirements.txt names every "
                f"package with its version. Arithmetic in {arithmetic['precision']}, {arithmetic['threads']} threads, "
                f"instruction set {arithmetic['instructions']}: with these the run gives the same bytes again.",
            ],
        ),
        Item(24, "Initial parameters", [start]),
    ]


def fitting(run: Run) -> list[Item]:
    """Items 25 to 27."""
    train = run.metrics["train"]
    text = [*training(run), "Every setting stands at the end of this page."]
    averaged, epochs = run.settings["train"]["average"], train["epochs"]
    kept = (
        f"Kept: the mean of the weights after each of the last {averaged} of {epochs} epochs; none was selected."
        if averaged
        else f"Kept: the weights of epoch {train['best_epoch']} of {epochs}, of the highest validation ROC AUC."
    )
    ranking = [
        score("ROC AUC, training images", train["train"]["roc_auc"]),
        score("ROC AUC, validation images", train["valid"]["roc_auc"]),
    ]
    return [
        Item(25, "Training", [*text, ToFillIn("how many other models were trained and looked at before this one")]),
        Item(
            26,
            "Selection of the final model",
            [
                kept,
                "Intervals by DeLong, as if images were independent:",
                Scores(ranking),
                Pictures([(run.plots / "history.png", "Loss and ROC AUC by epoch")]),
            ],
        ),
        Item(27, "Ensembles", ["None: one network."]),
    ]


def evaluation(run: Run) -> list[Item]:
    """Items 28 to 34."""
    evaluate = run.settings["evaluate"]
    listed = ", ".join(one.title for key, one in run.scores.items() if key != "shortcut_roc_auc")
    naive = run.metrics["test"]["if_images_were_independent"]
    independent = [
        run.scores["roc_auc"],
        score("The same as if images were independent, DeLong", naive["roc_auc_delong"]),
        score("The same as if images were independent, bootstrap", naive["roc_auc_bootstrap"]),
    ]
    return [
        Item(
            28,
            "Metrics",
            [
                f"{listed}. Threshold: {RULES.get(evaluate['threshold'], evaluate['threshold'])}, {run.threshold:.3f}, "
                "locked before the test images were scored. Besides: Brier score, expected calibration error, net "
                "benefit.",
            ],
        ),
        Item(
            29,
            "Uncertainty",
            [
                f"95 % intervals from {evaluate['resamples']:,} resamples of whole patients (seed {evaluate['seed']}), "
                "separately among those with and without cancer, since images of one patient resemble each other. Two "
                "models are compared image by image (mammo compare). What ignoring the patients would claim:",
                Scores(independent),
            ],
        ),
        Item(
            30,
            "Robustness",
            [
                "Other thresholds: item 38. Brightness alone: item 37.",
                ToFillIn("how the scores change with other seeds, scanners, exposures or populations"),
            ],
        ),
        Item(31, "Explainability", explanation(run)),
        Item(
            32,
            "Evaluation on internal data",
            [
                f"{about(run)}. They are of the same source as the training images and were scored once.",
                *([run.leak] if run.leak else []),
            ],
        ),
        Item(33, "Testing on external data", ["None in this run."]),
        Item(34, "Clinical trial registration", ["None: no patient took part."] if run.phantoms else [AUTHORS]),
    ]


def explanation(run: Run) -> list[Block]:
    """Where the network looks: the contact sheets, and whether its heat maps can be believed."""
    blocks: list[Block] = ["Heat maps of what speaks for cancer: gradient × input (Shrikumar et al. 2016), smoothed."]
    intervals, numbers = intervals_and_numbers(run.metrics["explanation"])
    if intervals:
        blocks.append(Scores(intervals))
    if numbers:
        blocks.append(Table(("Where the network looks", "Value"), numbers))
    shown = [(path, path.stem.replace("_", " ").capitalize()) for path in pictures(run.plots / "explanation")]
    if shown:
        blocks.append(Pictures(shown))
    return blocks


def intervals_and_numbers(content: Mapping[str, Any], above: str = "") -> tuple[list[Score], list[tuple[str, str]]]:
    """Every score with an interval, and every other number with its name, in the order in which they stand."""
    intervals: list[Score] = []
    numbers: list[tuple[str, str]] = []
    for key, entry in content.items():
        name = (
            f"{above}, {key.replace('_', ' ')}" if above else EXPLANATIONS.get(key, key.replace("_", " ").capitalize())
        )
        if not isinstance(entry, Mapping) or set(entry) == {"value"}:
            number = entry["value"] if isinstance(entry, Mapping) else entry
            numbers.append((name, f"{number:.3f}" if isinstance(number, float) else str(number)))
        elif {"value", "low", "high"} <= set(entry):
            intervals.append(score(name, entry))
        else:
            inner = intervals_and_numbers(entry, name)
            intervals += inner[0]
            numbers += inner[1]
    return intervals, numbers


def results(run: Run) -> list[Item]:
    """Items 35 to 39."""
    looks = Table(
        ("What the audit saw", "Images, healthy", "Images, cancer"),
        [
            (
                words,
                f"{run.metrics['audit']['appearance'][kind]['healthy']:,}",
                f"{run.metrics['audit']['appearance'][kind]['cancer']:,}",
            )
            for kind, words in APPEARANCES.items()
        ],
    )
    left_out = run.metrics["preprocess"]["unreadable"]["skipped"]
    return [
        Item(
            35,
            "Numbers included and excluded",
            [
                f"Included: {patients_and_images(run)} Left out as unreadable: {left_out:,} images.",
                *([] if run.phantoms else [ToFillIn("whom the source itself had included and excluded")]),
            ],
        ),
        Item(
            36,
            "Characteristics of the cases in each partition",
            [
                splits(run),
                looks,
                *audit_pictures(run, lambda kind: kind in APPEARANCES),
                *([] if run.phantoms else [ToFillIn("age, breast density, scanners, kinds and sizes of the cancers")]),
            ],
        ),
        Item(
            37,
            "Performance with its uncertainty",
            [
                f"{about(run)}.",
                Scores(list(run.scores.values())),
                verdict(run),
                *audit_pictures(run, lambda kind: kind == "shortcut"),
                Pictures(
                    [
                        (run.plots / "roc.png", "ROC curve, test images"),
                        (run.plots / "pr.png", "Precision and recall, test images"),
                    ]
                ),
            ],
        ),
        Item(
            38,
            "Diagnostic performance and its precision",
            [
                operating_points(run),
                Pictures(
                    [
                        (run.plots / "confusion.png", "Confusion matrix at the threshold in force"),
                        (run.plots / "calibration.png", "Calibration, test images"),
                    ]
                ),
                calibration(run),
                decision_curve(run),
            ],
        ),
        Item(39, "Failure analysis", failures(run)),
    ]


def failures(run: Run) -> list[Block]:
    """How many images and patients were missed or called wrongly, and the most certain mistakes."""
    called, positive = defaultdict(list), set()
    for row in run.predictions:
        called[row["patient"]].append(row["predicted"] == "1")
        if row["label"] == "1":
            positive.add(row["patient"])
    missed_patients = sum(not any(called[patient]) for patient in positive)
    cancer = [row for row in run.predictions if row["label"] == "1"]
    healthy = [row for row in run.predictions if row["label"] == "0"]
    missed = sorted((row for row in cancer if row["predicted"] == "0"), key=lambda row: float(row["probability"]))
    false = sorted((row for row in healthy if row["predicted"] == "1"), key=lambda row: -float(row["probability"]))
    rows = [(row["image"], "cancer", f"{float(row['probability']):.3f}") for row in missed[:MOST_CERTAIN]]
    rows += [(row["image"], "healthy", f"{float(row['probability']):.3f}") for row in false[:MOST_CERTAIN]]
    blocks: list[Block] = [
        f"Missed: {len(missed):,} of {len(cancer):,} images with cancer (sensitivity {run.scores['sensitivity']}). "
        f"Called wrongly: {len(false):,} of {len(healthy):,} healthy images (specificity {run.scores['specificity']}). "
        f"Of {len(positive):,} patients with cancer, {missed_patients:,} had no image called.",
    ]
    if rows:
        blocks.append(Table(("The most certain mistakes, as delivered", "Truth", "Probability of cancer"), rows))
    if not run.phantoms:
        blocks.append(ToFillIn("what the mistakes have in common"))
    return blocks


def decision_curve(run: Run) -> Drawing:
    """Net benefit by threshold probability, with its band, beside calling everybody and nobody."""
    width, height, left, top = 440, 250, 46, 12
    columns = {
        key: [float(row[key]) for row in run.decision] for key in ("threshold", "model", "low", "high", "treat_all")
    }
    ceiling = max(0.05, *columns["high"], *columns["treat_all"])
    floor = -ceiling / 4  # calling everybody falls without bound

    def place(threshold: float, benefit: float) -> str:
        share = (ceiling - min(max(benefit, floor), ceiling)) / (ceiling - floor)
        return f"{left + threshold * (width - left):.1f},{top + share * height:.1f}"

    def line(key: str, backwards: bool = False) -> list[str]:
        points = [place(x, y) for x, y in zip(columns["threshold"], columns[key], strict=True)]
        return points[::-1] if backwards else points

    in_view = [x for x, y in zip(columns["threshold"], columns["treat_all"], strict=True) if y > floor]
    everybody = line("treat_all")[: len(in_view) + 1]
    bottom = top + height
    labels = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = place(tick, 0).split(",")[0]
        labels.append(element("text", f"{tick:g}", x=x, y=str(bottom + 16), text_anchor="middle"))
    for benefit in (0.0, ceiling / 2, ceiling):
        y = place(0, benefit).split(",")[1]
        labels.append(element("text", f"{benefit:.2f}", x=str(left - 6), y=y, dy="4", text_anchor="end"))
        labels.append(element("line", class_="grid", x1=str(left), x2=str(width), y1=y, y2=y))
    middle = str((left + width) / 2)
    labels.append(element("text", "Threshold probability", x=middle, y=str(bottom + 34), text_anchor="middle"))
    labels.append(element("text", "Net benefit", x="0", y="2"))
    svg = element(
        "svg",
        *labels,
        element("polygon", class_="band", points=" ".join([*line("low"), *line("high", backwards=True)])),
        element("polyline", class_="reference", points=" ".join(everybody)),
        element("polyline", class_="line", points=" ".join(line("model"))),
        element("path", class_="axes", d=f"M{left},{top}V{bottom}H{width}"),
        viewBox=f"0 -10 {width + 6} {height + 62}",
        role="img",
        aria_label="Decision curve",
    )
    return Drawing(
        svg,
        "Decision curve, test images: net benefit of the network with its pointwise 95 % band; dashed: calling "
        "everybody; 0: calling nobody",
    )


def discussion(run: Run) -> list[Item]:
    """Items 40 and 41."""
    more = [] if run.phantoms else [ToFillIn("limits of the data and of the study that no file shows")]
    return [
        Item(40, "Limitations", [Points(limits(run)), *more]),
        Item(41, "Implications for practice", [f"None. {RESEARCH_ONLY}"]),
    ]


def other_information(run: Run) -> list[Item]:
    """Items 42 to 44."""
    return [
        Item(
            42,
            "Full protocol and technical details",
            [
                "dvc.yaml, params.yaml and dvc.lock of the commit that holds this run's model card: they say what was "
                "run on which data, to the byte.",
                ToFillIn("a protocol written before the study, if there is one"),
            ],
        ),
        Item(
            43,
            "Availability of software, model and data",
            [
                "The commit holds the software; DVC keeps the model (data/model) and the data (data/raw)"
                + (", which can be drawn again to the byte." if run.phantoms else "."),
                ToFillIn("where they can be had, and under which terms"),
            ],
        ),
        Item(44, "Funding and other support", [AUTHORS]),
    ]


# The model card


def as_model_card(run: Run) -> str:
    """model_card.md, in Hugging Face's form: metadata in YAML, then Markdown; text only."""
    data = run.card["trained_on"]["source"]
    names = {
        "phantom": "PHANTOMS (synthetic mammograms)",
        "kaggle": str(run.settings["data"]["kaggle"]),
        "folder": "own images",
    }
    types = {"phantom": "phantoms", "kaggle": str(run.settings["data"]["kaggle"]), "folder": "folder"}
    metrics = [
        {
            "type": HUB_METRICS.get(key, key),
            "name": f"{one.title}, 95 % interval {one.low:.3f}–{one.high:.3f}",
            "value": one.value,
        }
        for key, one in run.scores.items()
        if key not in NOT_THE_MODELS
    ]
    results = {
        "task": {"type": "image-classification", "name": "Mammograms, healthy or cancer"},
        "dataset": {
            "name": ("LEAKING: " if run.leak else "") + names[data],
            "type": types[data],
            "split": "test",
        },
        "metrics": metrics,
    }
    head = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": [
            "mammography",
            "breast-cancer",
            "medical-imaging",
            "research-only",
            *(["synthetic-data"] if run.phantoms else []),
        ],
        "metrics": [one["type"] for one in metrics],
        "model-index": [{"name": f"mammo-{run.card['network']}", "results": [results]}],
    }
    leak = f"# {' '.join(run.leak.split())}\n" if run.leak else ""
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{leak}{front}---\n\n" + "\n\n".join(card_text(run)) + "\n"


def card_text(run: Run) -> list[str]:
    """The paragraphs of the model card, with the headings of the Hub's template."""
    height, width = run.card["preprocess"]["size"]
    code = (
        "```python\nimport keras\n\n"
        'network = keras.models.load_model("data/model/model.keras")\n'
        f"# grey images, 0 to 255, (n, {height}, {width}, 1); gives (n, 2): probability of healthy, of cancer\n"
        "network.predict(images)\n```"
    )
    return [
        *(f"> **{markdown(text)}**" for _, text in notices(run)),
        f"# Model Card for mammo-{markdown(run.card['network'])}",
        "A convolutional neural network that calls single mammograms healthy or cancer. Written by the pipeline from "
        "the files of the run; `report/report.html` has the pictures and every item of the CLAIM checklist.",
        "## Model Details",
        *(markdown(block) for item in network(run) for block in item.blocks if isinstance(block, str)),
        "## Uses",
        f"{RESEARCH_ONLY} Meant for: research into how such networks are trained, scored and compared.",
        "## Bias, Risks, and Limitations",
        as_markdown(Points(limits(run))),
        "## How to Get Started with the Model",
        "`dvc pull data/model`, then `mammo predict PATH…`, or in Python:",
        code,
        "## Training Details",
        "### Training Data",
        markdown(f"{source(run)} {patients_and_images(run)}"),
        as_markdown(splits(run)),
        "### Training Procedure",
        *map(markdown, training(run)),
        as_markdown(settings_in_force(run)),
        "## Evaluation",
        markdown(f"{about(run)}. 95 % intervals from resamples of whole patients."),
        "### Results",
        as_markdown(Scores(list(run.scores.values()))),
        markdown(verdict(run)),
        "### Operating points",
        as_markdown(operating_points(run)),
        "### Calibration",
        as_markdown(calibration(run)),
    ]


if __name__ == "__main__":
    stage.run(main, reads_scores=True)
