"""An adapter or a reward on the Hugging Face hub, in one call."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from pamela_rl.diffusion.saved_adapters import INFO, find_adapter
from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.rewards.saved import CONFIG, SavedReward, reward_folder
from pamela_rl.sharing.identity import ADAPTER_FILES, CARD, REWARD_FILES, copy_adapter, copy_reward, reward_card


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    user_id: str | None = None,
    *,
    private: bool = True,
    with_identity: bool = False,
) -> list[str]:
    """Upload an adapter or a reward to a model repository, in one commit, and print what is uploaded.

    Args:
        folder: Of an adapter or of a reward; or of a run, together with ``user_id``.
        repo_id: ``OWNER/NAME``; the repository is made where there is none.
        user_id: Whose adapter of the run.
        private: Whether only its owner can see the repository.
        with_identity: Upload the files as they are. By default no file tells user ids, names of images, digests of
            answers or paths: users of a reward become numbers.

    Returns:
        Names of the uploaded files.

    Raises:
        AdapterError: There is no such adapter.
        ConfigError: The repository is public though ``private`` is asked for, or its id cannot be.
        ServiceError: The hub cannot be reached, or refuses.
    """
    path, is_reward = _found(Path(folder), user_id)
    with tempfile.TemporaryDirectory() as temporary:
        target, withheld = Path(temporary), []
        if with_identity:
            for file in REWARD_FILES if is_reward else ADAPTER_FILES:
                if (path / file).exists():
                    shutil.copyfile(path / file, target / file)
        else:
            withheld = copy_reward(path, target) if is_reward else copy_adapter(path, target)
        if is_reward:
            (target / CARD).write_text(reward_card(SavedReward.read(path).kind), encoding="utf-8")
        files = sorted(target.iterdir())
        said = ", ".join(f"{file.name} ({_size(file.stat().st_size)})" for file in files)
        whose = "with all they tell of people" if with_identity else f"without {', '.join(withheld)}"
        print(f"Uploading to the {'private' if private else 'PUBLIC'} repository {repo_id}, {whose}: {said}.")
        _upload(files, repo_id, private, "A reward" if is_reward else "An adapter")
        return [file.name for file in files]


def _found(folder: Path, user_id: str | None) -> tuple[Path, bool]:
    """The folder of the adapter or reward that is meant, and whether it is a reward."""
    reward = reward_folder(folder)
    is_reward = user_id is None and not (folder / INFO).exists() and (reward / CONFIG).exists()
    return (reward, True) if is_reward else (find_adapter(folder, user_id), False)


def _upload(files: list[Path], repo_id: str, private: bool, what: str) -> None:
    import httpx
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ConfigError(
                f"the repository {repo_id} is public already; name another, make it private on the hub, or push with private=False."
            )
        added = [CommitOperationAdd(file.name, file) for file in files]
        api.create_commit(repo_id, added, commit_message=f"{what} trained by pamela_rl")
    except HFValidationError as error:
        raise ConfigError(f"repo_id is {repo_id!r}, which no repository can be called; give OWNER/NAME.") from error
    except (OSError, httpx.HTTPError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServiceError(
            f"the hub did not take the files for {repo_id} ({reason[:200]}); log in with 'hf auth login' as one who may write "
            "there, see that HF_HUB_OFFLINE is not set, and push again."
        ) from error


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"
