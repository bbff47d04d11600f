"""A later version of Dal Segno, invented: this one, and a migration more. As a program:

python later.py FOLDER dalsegno.engine --listen ...
"""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

from dalsegno.store import migrate

LATER = (__file__,)
"""What runs a service of the later version, before the folder with its migrations and the service's module."""

_MIGRATION = '''"""Add a colour and a table."""

import sqlalchemy as sa
from alembic import op

IS_ADDITIVE = {is_additive}

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("executions", sa.Column("{column}", sa.Text, nullable=False, server_default="none"))
    op.create_table("shades_{revision}", sa.Column("id", sa.Integer, primary_key=True))
'''


def later_migrations(folder: Path, revision: str = "9999", *, is_additive: bool = True) -> Path:
    """The migrations of this version, and one more after those that were added before."""
    scripts = folder / "migrations"
    if not scripts.exists():
        shutil.copytree(migrate._SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    versions = scripts / "versions"
    before = max(path.name for path in versions.glob("v*.py"))[1:5]
    column = "colour" if revision == "9999" else f"colour_{revision}"
    text = _MIGRATION.format(revision=revision, before=before, column=column, is_additive=is_additive)
    (versions / f"v{revision}_colours.py").write_text(text)
    return scripts


def main() -> None:
    """Run a service of the later version."""
    _, folder, module, *arguments = sys.argv
    vars(migrate)["_SCRIPTS"] = Path(folder) / "migrations"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
