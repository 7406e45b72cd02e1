"""Lines in the format of the Census-Income archive, drawn at random."""

import gzip
import random
from pathlib import Path

from pipelines.census_archive import ANSWERS, COLUMNS, NUMBERS

WORDS = {
    "class_of_worker": ("Not in universe", "Private", "Federal government"),
    "hispanic_origin": ("All other", "NA", "Mexican (Mexicano)"),
    "migration_code_change_in_msa": ("?", "Nonmover", "MSA to MSA"),
    "detailed_industry_recode": ("0", "33", "43"),
    "year": ("94", "95"),
}


def draw_line(draw: random.Random) -> dict[str, str]:
    """One row: income follows from age, so that there is something to learn."""
    fields = {name: draw.choice(WORDS.get(name, ("Not in universe", "other"))) for name in COLUMNS}
    fields |= {name: str(draw.choice((0, 0, 0, draw.randrange(99_999)))) for name in NUMBERS}
    fields |= {"age": str(draw.randrange(90)), "instance_weight": f"{draw.uniform(50, 9000):.2f}"}
    for answer in ANSWERS:
        fields[answer.column] = draw.choice(sorted(answer.positive | answer.negative))
    fields["income_bracket"] = "50000+." if int(fields["age"]) > 60 else "- 50000."
    return fields


def write_lines(path: Path, rows: list[dict[str, str]]) -> Path:
    """As the archive writes them: a space before each field but the first; `.gz` is compressed."""
    text = "".join(f"{', '.join(row[name] for name in COLUMNS)}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_archive(folder: Path, seed: int, rows: int = 300) -> tuple[Path, Path]:
    """The training file and the test file, the latter compressed and half as long."""
    draw = random.Random(seed)
    train, test = ([draw_line(draw) for _ in range(n)] for n in (rows, rows // 2))
    return (
        write_lines(folder / "census-income.data", train),
        write_lines(folder / "census-income.test.gz", test),
    )
