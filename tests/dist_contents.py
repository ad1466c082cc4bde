"""What lies in the wheel and the sdist of a folder: the package, its templates and its licence, and nothing else."""

import re
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

(wheel,), (sdist,) = Path(sys.argv[1]).glob("*.whl"), Path(sys.argv[1]).glob("*.tar.gz")
source = Path("src")
package = {
    str(p.relative_to(source))
    for p in source.rglob("*")
    if p.is_file() and p.suffix in (".py", ".j2", ".css", ".js", ".typed")
}

with zipfile.ZipFile(wheel) as file:
    names = set(file.namelist())
    (about,) = (name for name in names if name.endswith("/METADATA"))
    metadata = BytesParser().parsebytes(file.read(about))
info = about.removesuffix("METADATA")
extra = {f"{info}{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
assert names == package | extra, f"{wheel}: {sorted(names ^ (package | extra))}"

with tarfile.open(sdist) as file:
    names = {name.partition("/")[2] for name in file.getnames()}
beside = {"README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
assert names == {f"src/{name}" for name in package} | beside, f"{sdist}: {sorted(names)}"

relative = re.findall(r"\]\((?!https?:|#)[^)]*\)|(?:src|href)=\"(?!https?:|#)[^\"]*", metadata.get_payload())
assert not relative, f"links that lead nowhere on a package index: {relative}"
print(
    f"{wheel.name}: {wheel.stat().st_size:,} bytes, {len(package)} files; {sdist.name}: {sdist.stat().st_size:,} bytes"
)
