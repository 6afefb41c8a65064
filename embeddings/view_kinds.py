"""The kinds of views that a language model gives; light to import."""

from __future__ import annotations

from arena.view import ViewKind, register

LIKELIHOOD = register(
    ViewKind(
        name="likelihood",
        title="how likely the language model finds the answers",
        architecture="frozen",
        command="extract.py",
        view_class="embeddings.frozen.likelihood:Likelihood",
        seconds="language_model_train",
    )
)
LOGITS = register(
    ViewKind(
        name="logits",
        title="the fine-tuned language model's verdict",
        architecture="fine-tuned",
        command="finetune.py",
        view_class="embeddings.judge.view:JudgeLogits",
        sees_votes=True,
        seconds="finetune_{view}",
    )
)
VERDICT = register(
    ViewKind(
        name="verdict",
        title="the untrained language model's verdict",
        architecture="frozen",
        command="verdict.py",
        view_class="embeddings.zero_shot.view:ZeroShotVerdict",
        seconds="{view}",
    )
)
