"""A model from the Hugging Face Hub, in its local cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig

TOKENIZER_FILES = ["*.json", "*.jinja", "*.model"]


def hub_folder(config: BackboneConfig, weights: bool) -> Path:
    """The local folder of a model on the Hub; downloads what is not there yet.

    Args:
        config: the backbone; its ``source`` is a Hub id.
        weights: whether the weights are needed, or only configuration and tokenizer.

    Raises:
        UserError: the model cannot be had; one line says why and what to do.
    """
    files = [*TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    where = f"backbone {config.name}: {config.source} at revision {config.revision}"

    def download(offline: bool) -> Path:
        return Path(
            snapshot_download(
                config.source,
                revision=config.revision,
                allow_patterns=files,
                local_files_only=offline,
            )
        )

    try:
        try:
            return download(offline=False)
        except PermissionError:
            # A cache that may only be read, and may hold the model.
            return download(offline=True)
    except HFValidationError as error:
        raise UserError(
            Code.HUB_ID_UNKNOWN, f"{where} is neither a local folder nor a Hub id (owner/name)."
        ) from error
    except GatedRepoError as error:
        raise UserError(
            Code.HUB_GATED,
            f"{where} is gated. Accept its licence on https://huggingface.co/{config.source} and "
            "run `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            Code.HUB_ID_UNKNOWN, f"{where} is not on the Hub, or is private. Check `source`."
        ) from error
    # Whatever else goes wrong in a download is nothing that this code could fix.
    except Exception as error:
        raise UserError(
            Code.HUB_UNREACHABLE,
            f"{where} cannot be downloaded ({type(error).__name__}). Go online, or give the folder "
            "of a downloaded model.",
        ) from error
