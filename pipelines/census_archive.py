"""The two files of UCI's Census-Income (KDD) archive, as downloaded: their columns and labels.

`census-income.data` (199,523 rows) and `census-income.test` (99,762 rows) are comma-separated text
without a header, plain or compressed with gzip: 42 fields per line, each after a space. A field of
`?` or `Not in universe` is an ordinary value of its column.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recsys_mtl.config import UserError

COLUMNS = (
    *("age", "class_of_worker", "detailed_industry_recode", "detailed_occupation_recode"),
    *("education", "wage_per_hour", "enroll_in_edu_inst_last_wk", "marital_stat"),
    *("major_industry_code", "major_occupation_code", "race", "hispanic_origin", "sex"),
    *("member_of_a_labor_union", "reason_for_unemployment", "full_or_part_time_employment_stat"),
    *("capital_gains", "capital_losses", "dividends_from_stocks", "tax_filer_stat"),
    *("region_of_previous_residence", "state_of_previous_residence"),
    *("detailed_household_and_family_stat", "detailed_household_summary_in_household"),
    *("instance_weight", "migration_code_change_in_msa", "migration_code_change_in_reg"),
    *("migration_code_move_within_reg", "live_in_this_house_1_year_ago"),
    *("migration_prev_res_in_sunbelt", "num_persons_worked_for_employer"),
    *("family_members_under_18", "country_of_birth_father", "country_of_birth_mother"),
    *("country_of_birth_self", "citizenship", "own_business_or_self_employed"),
    *("fill_inc_questionnaire_for_veterans_admin", "veterans_benefits", "weeks_worked_in_year"),
    *("year", "income_bracket"),
)
"""The fields of a line, in the archive's order."""

NUMBERS = (
    *("age", "wage_per_hour", "capital_gains", "capital_losses", "dividends_from_stocks"),
    *("instance_weight", "num_persons_worked_for_employer", "weeks_worked_in_year"),
)
"""The fields that are quantities; all others are codes or words, even where they are digits."""


@dataclass(frozen=True)
class Answer:
    """How the label of one task follows from a field of the archive."""

    task: str
    column: str
    """The field, which is no feature, as it holds the answer."""
    positive: frozenset[str]
    negative: frozenset[str]


ANSWERS = (
    Answer("income", "income_bracket", frozenset({"50000+."}), frozenset({"- 50000."})),
    Answer(
        "marital",
        "marital_stat",
        frozenset({"Never married"}),
        frozenset(
            {
                *("Divorced", "Married-A F spouse present", "Married-civilian spouse present"),
                *("Married-spouse absent", "Separated", "Widowed"),
            }
        ),
    ),
    Answer(
        "education",
        "education",
        frozenset(
            {
                *("Some college but no degree", "Associates degree-academic program"),
                *("Associates degree-occup /vocational", "Bachelors degree(BA AB BS)"),
                *("Masters degree(MA MS MEng MEd MSW MBA)", "Doctorate degree(PhD EdD)"),
                "Prof school degree (MD DDS DVM LLB JD)",
            }
        ),
        frozenset(
            {
                *("Children", "Less than 1st grade", "1st 2nd 3rd or 4th grade"),
                *("5th or 6th grade", "7th and 8th grade", "9th grade", "10th grade"),
                *("11th grade", "12th grade no diploma", "High school graduate"),
            }
        ),
    ),
)
"""The tasks of the GradOPS paper: income over 50,000, never married, at least some college."""

LABELS = {answer.task: f"label_{answer.task}" for answer in ANSWERS}
"""Task to the column of its label."""


def read_archive(csv: Path) -> pa.Table:
    """One of the archive's files, with the columns COLUMNS and a label of 0 or 1 per task.

    Raises:
        UserError: the file is missing, or a line is not the archive's.
    """
    fields = _read_fields(csv)
    columns = {name: pc.utf8_trim_whitespace(fields[name]) for name in COLUMNS}
    for name in NUMBERS:
        columns[name] = _numbers(csv, name, columns[name])
    labels = {
        LABELS[answer.task]: _label(csv, answer, columns[answer.column]) for answer in ANSWERS
    }
    return pa.table(columns | labels)


def _read_fields(csv: Path) -> pa.Table:
    """The file's fields as text."""
    if not csv.is_file():
        raise UserError(
            f"{csv} is no file; give census-income.data or census-income.test of UCI's "
            "Census-Income (KDD) archive, plain or .gz"
        )
    try:
        table = pa.csv.read_csv(
            csv,
            pa.csv.ReadOptions(column_names=COLUMNS, use_threads=False),
            pa.csv.ParseOptions(quote_char=False),
            pa.csv.ConvertOptions(column_types={name: pa.string() for name in COLUMNS}),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{csv} is not Census-Income's text of {len(COLUMNS)} fields per line "
            f"({' '.join(str(error).split())[:150]}); give the archive's file as downloaded"
        ) from None
    if table.num_rows == 0:
        raise UserError(f"{csv} has no rows; give the archive's file as downloaded")
    return table


def _numbers(csv: Path, name: str, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return texts.cast(pa.float32())
    except pa.ArrowInvalid as error:
        line = _first_line(~np.asarray(pc.match_substring_regex(texts, r"^-?\d+(\.\d*)?$")))
        raise UserError(
            f"{csv}, line {line}: {name} is no number ({' '.join(str(error).split())[:100]}); give "
            "the archive's file as downloaded"
        ) from None


def _label(csv: Path, answer: Answer, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    known = pc.is_in(texts, pa.array(sorted(answer.positive | answer.negative)))
    if not pc.all(known).as_py():
        line = _first_line(~np.asarray(known))
        raise UserError(
            f"{csv}, line {line}: {answer.column} is {texts[line - 1].as_py()!r}, from which the "
            f"label of {answer.task} does not follow; give the archive's file as downloaded"
        )
    return pc.is_in(texts, pa.array(sorted(answer.positive))).cast(pa.int8())


def _first_line(is_bad: np.ndarray) -> int:
    """The number of the first such line, from 1."""
    return int(np.argmax(is_bad)) + 1
