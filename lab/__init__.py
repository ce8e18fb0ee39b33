"""What experiments are composed of: option groups, the command line, the frame of a run, and its tables.

    @dataclass(frozen=True)
    class Config:
        run: RunOptions = RunOptions()              # --preset, --name, --out
        data: DataOptions = DataOptions()           # --data, --data-dir, --image-size
        optimizer: OptimizerOptions = OptimizerOptions("adam")
        size: int = 3                               # --size, an option of the experiment itself

    def main(config: Config) -> Result:
        with open_run(__file__, config) as run: ...

    if __name__ == "__main__":
        sys.exit(command(__doc__, Config, main))

Names are imported when they are first used: `etude --help` lists the experiments without importing JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import on_first_use

if TYPE_CHECKING:
    from .arrays import (
        EVALUATION_BATCH,
        between,
        between_pairs,
        in_batches,
        load_arrays,
        mean_over_seeds,
        over_seeds,
        read_once,
        save_arrays,
    )
    from .augmentation import (
        AnnotatedOptions,
        AugmentationOptions,
        MixingOptions,
        ViewOptions,
        make_annotated_augmentation,
        make_augmentation,
        of_images,
        views,
        voting_views,
    )
    from .baseline import bag_of_words
    from .classifier import Classifier, classification, more_accurate, named_model, weights_of_classes
    from .cli import command, experiments, parse
    from .config import Option, check, flatten, options_of, override, read_config, read_json, to_json
    from .detector import (
        AssignmentOptions,
        Detector,
        FindingOptions,
        FusionOptions,
        detection,
        detection_scores,
        find_objects,
        panoptic_scores,
        panoptic_truth,
        things_of,
    )
    from .finder import FoundRate, lr_find
    from .folder import read_result, run_folder, write_json
    from .generation import draw_curves, draw_stages, stages, stages_of, train_in_stages
    from .grids import parse_grid
    from .judge import Judge, prepare_judge, train_judge
    from .language import SamplingOptions, continue_text
    from .options import (
        NO_GRID,
        SCHEDULE_NAMES,
        AccumulationOptions,
        AveragingOptions,
        BatchOptions,
        DataOptions,
        DropOptions,
        GridOptions,
        JudgeOptions,
        LabeledTextOptions,
        LayoutOptions,
        LossOptions,
        ModelOptions,
        OptimizerName,
        OptimizerOptions,
        PairOptions,
        PrecisionOptions,
        RandomOptions,
        RangeTestOptions,
        RateOptions,
        ScheduleOptions,
        SeedsOptions,
        ShapeOptions,
        SizeOptions,
        StoppingOptions,
        TextOptions,
        TrainingOptions,
        UpdateOptions,
        without_end,
    )
    from .packed import Packed, pack, read_packed, unpack
    from .race import Race, draw_race, entrant
    from .rates import check_range, choose_rate, range_test, schedule_of, scheduled
    from .reporting import curves, draw_predictions, report_classifier
    from .run import Claim, Result, Run, RunOptions, number_text, open_run, save_figures
    from .saved_network import SavedNetwork, TrainedNetwork, best_part, load_network, model_in, saved_in, to_metadata
    from .segmenter import (
        SegmentationLossOptions,
        Segmenter,
        border_weights,
        label_of,
        larger_overlap,
        prepare_for,
        region_scores,
        region_threshold,
        segmentation,
        segmentation_scores,
    )
    from .tables import read_csv, write_csv
    from .text_networks import SmoothingOptions, text_training
    from .texts import (
        Corpus,
        corpus,
        encoded,
        labeled_corpus,
        labeled_texts,
        packed_texts,
        rows_for,
        texts_of,
        trained_tokenizer,
    )
    from .trained import Trained, fit, write_members
    from .training import (
        Start,
        Training,
        hyperparameters,
        known_fields,
        load,
        make_optimizer,
        make_training,
        population_of,
        warmup_cosine,
    )
    from .translator import SearchOptions, attention_map, translate
    from .valid import (
        COUNT,
        DISTINCT,
        FRACTION,
        NON_NEGATIVE,
        POSITIVE,
        PROPER_FRACTION,
        SEED,
        Choice,
        Grid,
        Valid,
        at_least,
        check_hyper,
    )
    from .weights import FreezeOptions, StartingWeights, WeightsOptions, starting_weights

__all__ = [
    "COUNT",
    "DISTINCT",
    "EVALUATION_BATCH",
    "FRACTION",
    "NON_NEGATIVE",
    "NO_GRID",
    "POSITIVE",
    "PROPER_FRACTION",
    "SCHEDULE_NAMES",
    "SEED",
    "AccumulationOptions",
    "AnnotatedOptions",
    "AssignmentOptions",
    "AugmentationOptions",
    "AveragingOptions",
    "BatchOptions",
    "Choice",
    "Claim",
    "Classifier",
    "Corpus",
    "DataOptions",
    "Detector",
    "DropOptions",
    "FindingOptions",
    "FoundRate",
    "FreezeOptions",
    "FusionOptions",
    "Grid",
    "GridOptions",
    "Judge",
    "JudgeOptions",
    "LabeledTextOptions",
    "LayoutOptions",
    "LossOptions",
    "MixingOptions",
    "ModelOptions",
    "OptimizerName",
    "OptimizerOptions",
    "Option",
    "Packed",
    "PairOptions",
    "PrecisionOptions",
    "Race",
    "RandomOptions",
    "RangeTestOptions",
    "RateOptions",
    "Result",
    "Run",
    "RunOptions",
    "SamplingOptions",
    "SavedNetwork",
    "ScheduleOptions",
    "SearchOptions",
    "SeedsOptions",
    "SegmentationLossOptions",
    "Segmenter",
    "ShapeOptions",
    "SizeOptions",
    "SmoothingOptions",
    "Start",
    "StartingWeights",
    "StoppingOptions",
    "TextOptions",
    "Trained",
    "TrainedNetwork",
    "Training",
    "TrainingOptions",
    "UpdateOptions",
    "Valid",
    "ViewOptions",
    "WeightsOptions",
    "at_least",
    "attention_map",
    "bag_of_words",
    "best_part",
    "between",
    "between_pairs",
    "border_weights",
    "check",
    "check_hyper",
    "check_range",
    "choose_rate",
    "classification",
    "command",
    "continue_text",
    "corpus",
    "curves",
    "detection",
    "detection_scores",
    "draw_curves",
    "draw_predictions",
    "draw_race",
    "draw_stages",
    "encoded",
    "entrant",
    "experiments",
    "find_objects",
    "fit",
    "flatten",
    "hyperparameters",
    "in_batches",
    "known_fields",
    "label_of",
    "labeled_corpus",
    "labeled_texts",
    "larger_overlap",
    "load",
    "load_arrays",
    "load_network",
    "lr_find",
    "make_annotated_augmentation",
    "make_augmentation",
    "make_optimizer",
    "make_training",
    "mean_over_seeds",
    "model_in",
    "more_accurate",
    "named_model",
    "number_text",
    "of_images",
    "open_run",
    "options_of",
    "over_seeds",
    "override",
    "pack",
    "packed_texts",
    "panoptic_scores",
    "panoptic_truth",
    "parse",
    "parse_grid",
    "population_of",
    "prepare_for",
    "prepare_judge",
    "range_test",
    "read_config",
    "read_csv",
    "read_json",
    "read_once",
    "read_packed",
    "read_result",
    "region_scores",
    "region_threshold",
    "report_classifier",
    "rows_for",
    "run_folder",
    "save_arrays",
    "save_figures",
    "saved_in",
    "schedule_of",
    "scheduled",
    "segmentation",
    "segmentation_scores",
    "stages",
    "stages_of",
    "starting_weights",
    "text_training",
    "texts_of",
    "things_of",
    "to_json",
    "to_metadata",
    "train_in_stages",
    "train_judge",
    "trained_tokenizer",
    "translate",
    "unpack",
    "views",
    "voting_views",
    "warmup_cosine",
    "weights_of_classes",
    "without_end",
    "write_csv",
    "write_json",
    "write_members",
]

__getattr__ = on_first_use(
    __name__,
    {
        "arrays": """
            EVALUATION_BATCH between between_pairs in_batches load_arrays mean_over_seeds over_seeds read_once
            save_arrays
        """,
        "augmentation": """
            AnnotatedOptions AugmentationOptions MixingOptions ViewOptions make_annotated_augmentation make_augmentation
            of_images views voting_views
        """,
        "classifier": "Classifier classification more_accurate named_model weights_of_classes",
        "baseline": "bag_of_words",
        "cli": "command experiments parse",
        "config": "Option check flatten options_of override read_config read_json to_json",
        "detector": "AssignmentOptions Detector FindingOptions FusionOptions detection detection_scores find_objects "
        "panoptic_scores panoptic_truth things_of",
        "finder": "FoundRate lr_find",
        "folder": "read_result run_folder write_json",
        "generation": "draw_curves draw_stages stages stages_of train_in_stages",
        "grids": "parse_grid",
        "language": "SamplingOptions continue_text",
        "judge": "Judge prepare_judge train_judge",
        "options": """
            NO_GRID SCHEDULE_NAMES AccumulationOptions AveragingOptions BatchOptions DataOptions DropOptions GridOptions
            JudgeOptions LabeledTextOptions LayoutOptions LossOptions ModelOptions OptimizerName OptimizerOptions
            PairOptions PrecisionOptions RandomOptions RangeTestOptions RateOptions ScheduleOptions SeedsOptions
            ShapeOptions SizeOptions StoppingOptions TextOptions TrainingOptions UpdateOptions without_end
        """,
        "packed": "Packed pack read_packed unpack",
        "race": "Race draw_race entrant",
        "rates": "check_range choose_rate range_test schedule_of scheduled",
        "reporting": "curves draw_predictions report_classifier",
        "run": "Claim Result Run RunOptions number_text open_run save_figures",
        "saved_network": "SavedNetwork TrainedNetwork best_part load_network model_in saved_in to_metadata",
        "segmenter": """
            SegmentationLossOptions Segmenter border_weights label_of larger_overlap prepare_for region_scores
            region_threshold segmentation segmentation_scores
        """,
        "tables": "read_csv write_csv",
        "text_networks": "SmoothingOptions text_training",
        "texts": """
            Corpus corpus encoded labeled_corpus labeled_texts packed_texts rows_for texts_of trained_tokenizer
        """,
        "trained": "Trained fit write_members",
        "training": """
            Start Training hyperparameters known_fields load make_optimizer make_training population_of warmup_cosine
        """,
        "translator": "SearchOptions attention_map translate",
        "weights": "FreezeOptions StartingWeights WeightsOptions starting_weights",
        "valid": """
            COUNT DISTINCT FRACTION NON_NEGATIVE POSITIVE PROPER_FRACTION SEED Choice Grid Valid at_least check_hyper
        """,
    },
)


def __dir__() -> list[str]:
    return __all__
