import pytest

from autoseg.core.quantities import parse_bytes, parse_seconds
from autoseg.errors import AutosegError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8_000_000_000),
        ("8000MB", 8_000_000_000),
        ("8gb", 8_000_000_000),
        (" 1.5 GB ", 1_500_000_000),
        ("250kB", 250_000),
        ("1TB", 10**12),
        ("12345", 12345),
        ("77b", 77),
        ("8GiB", 8 * 1024**3),
        ("11 gib", 11 * 1024**3),
        ("8192MiB", 8 * 1024**3),
        ("1.5KiB", 1536),
        ("1TiB", 1024**4),
    ],
)
def test_sizes_are_read_in_the_units_people_write(text, size):
    assert parse_bytes(text, "--gpu-memory") == size


@pytest.mark.parametrize(
    "text", ["banana", "", "GB", "8XB", "8Gi", "8iB", "-8GB", "0GB", "8 G B", "1e9", "8,5GB"]
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(AutosegError) as error:
        parse_bytes(text, "--gpu-memory")
    assert str(error.value) == f"--gpu-memory: '{text}' is no size; write for example 8GB or 8000MB"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("20m", 1200),
        ("20 min", 1200),
        ("1.5h", 5400),
        ("2H", 7200),
        ("2d", 172_800),
    ],
)
def test_times_are_read_in_the_units_people_write(text, seconds):
    assert parse_seconds(text, "--max-time") == seconds


@pytest.mark.parametrize("text", ["soon", "", "0", "0h", "-5m", "1h30m", "3 weeks"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(AutosegError, match=r"^--max-time: .* is no length of time; .* 20m or 2h$"):
        parse_seconds(text, "--max-time")
