// Brings new mails into /dev/mail without a reload, so that what is open stays open.

const EVERY = 2000;
const list = document.querySelector("#mails");
const news = document.querySelector("#news");

function say(text) {
  if (news.textContent !== text) news.textContent = text;
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    time.title = time.textContent;
    time.textContent = date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

async function look() {
  const answer = await fetch("/dev/mail", { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(String(answer.status));
  // The server has escaped everything; a parsed document runs no scripts.
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#mails");
  localTimes(next);
  const kept = new Set([...next.children].map((child) => child.id));
  const known = new Set([...list.children].map((child) => child.id));
  const fresh = [...next.children].filter((child) => !known.has(child.id));
  for (const child of [...list.children]) {
    if (!kept.has(child.id)) child.remove();
  }
  list.prepend(...fresh);
  const mails = fresh.filter((child) => child.matches("article")).length;
  if (mails > 0) say(mails === 1 ? "1 new mail" : `${mails} new mails`);
  else if (news.dataset.lost) say("Connected again");
  delete news.dataset.lost;
}

localTimes(list);
say("New mails appear by themselves");
setInterval(() => {
  if (document.hidden) return;
  look().catch(() => {
    news.dataset.lost = "yes";
    say("The server does not answer; trying again");
  });
}, EVERY);
