// Adds to /dev what needs a script: copy buttons, and the sample sign-in without leaving the page.

// The clipboard is there on localhost and https only; elsewhere the text is selected by hand.
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("pre[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button plain copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${block.dataset.copy}`);
    button.addEventListener("click", async () => {
      let done = true;
      await navigator.clipboard.writeText(block.textContent).catch(() => { done = false; });
      button.textContent = done ? "Copied" : "Select it by hand";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.before(button);
  }
}

const form = document.querySelector("#try-form");
const answer = document.querySelector("#try-answer");

function show(heading, text) {
  const title = document.createElement("p");
  title.textContent = heading;
  const block = document.createElement("pre");
  block.textContent = text;
  answer.replaceChildren(title, block);
}

async function signIn() {
  const signedIn = await fetch(form.action, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(Object.fromEntries(new FormData(form))),
  });
  if (!signedIn.ok) {
    show(`The sign-in was refused with ${signedIn.status}:`, await signedIn.text());
    return;
  }
  const session = await fetch("/api/auth/get-session");
  show("Signed in. GET /api/auth/get-session answers:", JSON.stringify(await session.json(), null, 2));
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  const label = button.textContent;
  button.disabled = true;
  button.textContent = "Signing in…";
  try {
    await signIn();
  } catch (error) {
    show("The server did not answer:", String(error));
  } finally {
    button.disabled = false;
    button.textContent = label;
  }
});
