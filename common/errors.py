"""The one exception that a user can cause, and the codes that name its kinds."""

from enum import StrEnum


class Code(StrEnum):
    """The kinds of mistake; ``docs/errors.md`` says what each means and what to do.

    Scripts match on the code, so a number keeps its meaning: it is never changed and never reused.
    """

    # A file or URL that holds battles, predictions or labels.
    INPUT_MISSING = "TB001"
    INPUT_UNREADABLE = "TB002"
    INPUT_EMPTY = "TB003"
    INPUT_DAMAGED = "TB004"
    INPUT_FORMAT = "TB005"
    INPUT_ENCODING = "TB006"
    INPUT_UNPACKS_TOO_LARGE = "TB007"
    COLUMN_MISSING = "TB010"
    COLUMN_AMBIGUOUS = "TB011"
    VOTES_MISSING = "TB012"
    ROW_DAMAGED = "TB013"
    ALL_ROWS_DAMAGED = "TB014"
    ID_INVALID = "TB015"
    ID_REPEATED = "TB016"
    PROBABILITY_INVALID = "TB017"
    LABELS_DISAGREE = "TB018"
    BATTLES_MISSING = "TB019"
    LABELS_UNCLEAR = "TB020"
    READER_MISSING = "TB021"
    TOO_MANY_REJECTED = "TB022"
    VOTES_AMBIGUOUS = "TB023"
    PROMPTS_EMPTY = "TB024"

    # The folder of a run.
    RUN_IN_USE = "TB101"
    RUN_CHANGED = "TB102"
    RUN_FILE_DAMAGED = "TB103"
    SPLIT_NOT_EXTRACTED = "TB104"
    STATES_INCOMPLETE = "TB105"
    STORE_IS_LINK = "TB106"
    RESPONSES_UNUSABLE = "TB107"
    RUN_READ_ONLY = "TB108"

    # A backbone: its configuration, its files, what runs it.
    BACKBONE_UNKNOWN = "TB201"
    BACKBONE_CONFIG_INVALID = "TB202"
    MODEL_FOLDER_INCOMPLETE = "TB203"
    WEIGHTS_DAMAGED = "TB204"
    MODEL_LOAD_FAILED = "TB205"
    ARCHITECTURE_UNSUPPORTED = "TB206"
    HUB_ID_UNKNOWN = "TB207"
    HUB_GATED = "TB208"
    HUB_UNREACHABLE = "TB209"
    BUILTIN_MODEL_MISSING = "TB210"
    CACHE_FOLDER_MISSING = "TB211"
    CONTEXT_EXCEEDED = "TB212"
    MAX_TOKENS_TOO_SMALL = "TB213"
    CHAT_TEMPLATE_INVALID = "TB214"
    TOKENIZER_UNSUPPORTED = "TB215"
    PARAMETERS_UNKNOWN = "TB216"
    OPENVINO_UNAVAILABLE = "TB217"
    BACKBONE_DIFFERS = "TB218"
    BACKBONE_MOVED = "TB219"
    RAY_MISSING = "TB220"
    RAY_UNREACHABLE = "TB221"
    RAY_TOO_SMALL = "TB222"
    RAY_ACTORS_FAILED = "TB223"
    RAY_MODEL_DIFFERS = "TB224"

    # A fine-tuned judge.
    RECIPE_INVALID = "TB301"
    LAYERS_INVALID = "TB302"
    DISK_TOO_SMALL = "TB303"
    FLOAT16_UNTRAINABLE = "TB304"
    CHECKPOINT_DIFFERS = "TB305"
    STATES_NOT_FINITE = "TB306"
    TRAINING_DIVERGED = "TB307"
    NO_TRAINING_BATTLES = "TB308"
    OPTION_WITHOUT_EFFECT = "TB309"
    OPTION_OUTDATED = "TB310"

    # A zero-shot judge behind an endpoint.
    ENDPOINT_INVALID = "TB401"
    ENDPOINT_UNREACHABLE = "TB402"
    ENDPOINT_LACKS_MODEL = "TB403"
    ENDPOINT_LACKS_LOGPROBS = "TB404"
    ENDPOINT_TOKENIZER_DIFFERS = "TB405"
    ENDPOINT_REFUSED = "TB406"
    ENDPOINT_FAILED = "TB407"
    API_KEY_INVALID = "TB408"
    API_KEY_WITHHELD = "TB409"

    # The second stage: views, the trained model, its figures.
    VIEW_KIND_UNKNOWN = "TB501"
    VIEW_MISSING = "TB502"
    VIEW_OUTDATED = "TB503"
    VIEW_DIFFERS = "TB504"
    VIEW_WITHOUT_SOURCE = "TB505"
    MODEL_MISSING = "TB506"
    MODEL_DAMAGED = "TB507"
    MODEL_FORMAT = "TB508"
    TOO_FEW_BATTLES = "TB509"
    FIGURES_MISSING = "TB510"
    FIGURES_OUTDATED = "TB511"
    TOO_FEW_VIEWS = "TB512"
    TUNING_STORE_UNUSABLE = "TB513"
    DATABASE_DRIVER_MISSING = "TB514"

    # The command line, and the machine.
    USAGE = "TB601"
    OPTION_INVALID = "TB602"
    OPTIONS_CONFLICT = "TB603"
    OUTPUT_INVALID = "TB604"
    OUTPUT_EXISTS = "TB605"
    PROGRAM_FAILED = "TB606"
    SYSTEM_ERROR = "TB701"
    OUT_OF_MEMORY = "TB702"
    NO_ROOM = "TB703"
    GPU_UNSUPPORTED = "TB704"
    WORKERS_FAILED = "TB705"
    NUMBERS_NOT_FINITE = "TB706"


class UserError(Exception):
    """Something the user gave is wrong.

    Commands print it as one line, ``[TB012] message``, and end with exit code 2; every other
    exception is a bug and keeps its traceback.

    Args:
        code: the kind of mistake.
        message: what is wrong and what to do; its line breaks become spaces.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = " ".join(message.split())

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
