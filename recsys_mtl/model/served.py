"""A body as a program of its own: what serves a trained model without this package's classes.

B batch rows, E columns of all pooled embeddings, F dense inputs, T tasks.
"""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, MultiTaskBody
from recsys_mtl.model.ownership import BodyError


class ServedBody(nn.Module):
    """A body in evaluation: no dropout, all tasks at once, products in float32."""

    def __init__(self, body: MultiTaskBody, num_tasks: int) -> None:
        super().__init__()
        self.body, self.num_tasks = body, num_tasks

    def forward(self, pooled: Tensor, dense: Tensor) -> Tensor:
        """[B, T] logits of pooled embeddings [B, E] and dense inputs [B, F]."""
        representation = self.body.representation(BodyInputs(pooled, dense), {})
        logits = [self.body.logits(representation, task, {}) for task in range(self.num_tasks)]
        return torch.stack(logits, dim=1)


def export_body(body: MultiTaskBody, shape: BodyShape) -> ExportedProgram:
    """The body with its parameters, for any number of rows from one on.

    Raises:
        BodyError: torch.export cannot follow it, or it scores a row by the rows beside it.
    """
    served = ServedBody(body, len(shape.task_names)).eval()
    generator = torch.Generator().manual_seed(0)
    pooled, dense = (
        torch.randn(5, columns, generator=generator)
        for columns in (shape.pooled_columns, shape.dense_columns)
    )
    rows = Dim("rows", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(
                served, (pooled, dense), dynamic_shapes={"pooled": {0: rows}, "dense": {0: rows}}
            )
    except Exception as error:  # whatever the body's own code makes torch raise
        reason = str(error).strip().partition("\n")[0]
        raise BodyError(
            f"the body {type(body).__name__} cannot be exported ({type(error).__name__}: "
            f"{reason}); write its forward without branches that depend on values or on the number "
            "of rows"
        ) from error
    _refuse_a_program_that_differs(served, program, pooled, dense)
    return program


@torch.no_grad()
def _refuse_a_program_that_differs(
    served: ServedBody, program: ExportedProgram, pooled: Tensor, dense: Tensor
) -> None:
    """Raise BodyError unless the program scores rows, together and alone, as the body does."""
    run, expected = program.module(), served(pooled, dense)
    pairs = zip(torch.split(pooled, 1), torch.split(dense, 1), strict=True)
    alone = torch.cat([run(*pair) for pair in pairs])
    for found in (run(pooled, dense), alone):
        if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
            raise BodyError(
                f"the body {type(served.body).__name__} scores a row otherwise alone than among "
                "others, so that it cannot be served; let each row's logits depend on that row"
            )
