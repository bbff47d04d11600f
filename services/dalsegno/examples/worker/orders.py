"""A worker of one's own: it weighs and packs orders."""

import asyncio
from dataclasses import dataclass

from dalsegno.worker import ActionContext, ActionFailed, Worker, action


@dataclass
class Line:
    """A line of an order."""

    article: str
    count: int
    weight_kg: float


@dataclass
class Parcel:
    """What leaves the house."""

    articles: int
    weight_kg: float


@action("orders.weigh", safe_to_rerun=True)
def weigh(lines: list[Line]) -> float:
    """Returns the weight of an order in kg."""
    return sum(line.count * line.weight_kg for line in lines)


@action("orders.pack")
async def pack(lines: list[Line], context: ActionContext, limit_kg: float = 30) -> Parcel:
    """Packs an order, line by line."""
    if (weight := weigh(lines)) > limit_kg:
        raise ActionFailed(f"too heavy: {weight:g} kg, at most {limit_kg:g}", {"weight_kg": weight})
    for number, line in enumerate(lines, 1):
        await asyncio.sleep(0.1)
        context.report(f"packed {line.article}", number / len(lines))
    return Parcel(sum(line.count for line in lines), weight)


if __name__ == "__main__":
    Worker(weigh, pack, id="orders-1").run()
