"""What a student of few steps may be asked for, by the stages that may hold one."""

from pathlib import Path
from types import ModuleType

import pytest

from models.diffusion.schedulers import new_scheduler
from models.diffusion.students import save_student
from models.errors import UserError
from models.translation import settings as translate
from models.visible.sd import settings as visible
from models.weights.store import SmallFiles, seal


@pytest.mark.parametrize("kind", [visible, translate])
def test_a_student_is_led_by_its_own_scheduler_alone(kind: ModuleType, tmp_path: Path) -> None:
    save_student(new_scheduler(), (1, 4), tmp_path)
    (tmp_path / "translation.json").write_text("{}")
    seal(tmp_path)
    files = {"model": SmallFiles(tmp_path)}
    for own in ("folder", "lcm"):
        kind.columns(kind.Options(), kind.Settings(steps=4, guidance=1, scheduler=own), files)
    for other in ("dpm++2m", "euler", "ddim", "unipc", "tcd"):
        with pytest.raises(UserError, match=f"jumps as LCM does: set scheduler to folder or lcm, not {other[:3]}"):
            kind.columns(kind.Options(), kind.Settings(steps=4, guidance=1, scheduler=other), files)
