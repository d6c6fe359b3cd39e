"""An app that paints pictures for credits."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from tollgate import (
    AuthenticatedUser,
    CurrentUser,
    MatchingUser,
    OptionalUser,
    Passage,
    Tollgate,
    UserCredits,
    authorize,
    require_role,
)

app = FastAPI()
Tollgate.from_env().install(app)

Admin = Annotated[AuthenticatedUser, Depends(require_role("admin"))]
Painter = Annotated[Passage, Depends(authorize(charge="image.generate"))]
Visitor = Annotated[Passage, Depends(authorize(guest="sketch"))]


class Picture(BaseModel):
    text: str
    credits_left: int | None = None


@app.get("/me")
async def me(user: CurrentUser) -> AuthenticatedUser:
    return user


@app.get("/")
async def home(user: OptionalUser) -> str:
    return "Hello!" if user is None else f"Hello, {user.name}!"


@app.get("/users/{user_id}/pictures")
async def pictures(user: MatchingUser) -> list[Picture]:
    return [Picture(text=f"a portrait of {user.email}")]


@app.get("/numbers")
async def numbers(admin: Admin) -> str:
    return f"for {admin.email} only"


@app.post("/pictures")
async def paint(subject: str, painter: Painter) -> Picture:
    left = painter.charge.available if painter.charge else None
    return Picture(text=f"a picture of {subject}", credits_left=left)


@app.post("/stories")
async def tell(subject: str, credits: UserCredits) -> Picture:
    async with credits.hold(8, reason="story") as hold:
        text = await write(subject)
        settled = await hold.settle(len(text) // 10, above="balance")
    return Picture(text=text, credits_left=settled.available if settled else None)


@app.post("/prints/{job}")
async def order(job: str, credits: UserCredits) -> Picture:
    charge = await credits.spend(3, reason="print", key=f"print-{job}")
    return Picture(text="a print", credits_left=charge.available)


@app.post("/sketches")
async def sketch(visitor: Visitor) -> str:
    return f"a sketch for {visitor.subject.kind} {visitor.subject.id}"


async def write(subject: str) -> str:
    if subject == "nothing":
        raise ValueError("there is nothing to tell")
    return f"Once upon a time there was {subject}."
