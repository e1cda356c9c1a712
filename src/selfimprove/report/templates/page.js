"use strict";
// The browser of samples. Model text is only ever set through textContent, so it stays text.
// A link can preset it: #run-1-samples?q=apples&show=tied&page=2

const PAGE_SIZE = 8;

const TESTS = {
  all: () => true,
  kept: (item) => item.kept === true,
  dropped: (item) => item.kept === false,
  split: (item) => item.classes.length > 1,
  tied: (item) => item.tied,
};

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) {
    made.textContent = text;
    made.dir = "auto";
  }
  return made;
}

function searchable(item) {
  const parts = [item.id, item.dataset, item.question, item.winner ?? ""];
  for (const path of item.drawn) parts.push(path.text, path.answer ?? "");
  return parts.join("\n").toLowerCase();
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

function about(parts) {
  const line = element("p", "about");
  for (const part of parts) line.append(typeof part === "string" ? element("span", "", part) : part);
  return line;
}

function pill(text, tone) {
  return element("span", `pill ${tone}`, text);
}

function voteRow(answer, votes, total, isWinner) {
  const row = element("li", isWinner ? "winner" : "");
  const track = element("div", "track");
  const fill = element("div", "fill");
  fill.style.width = percent(total ? votes / total : 0);
  track.append(fill);
  row.append(element("span", "answer", answer), track, element("span", "tally", `${votes} of ${total}`));
  return row;
}

function pathBlock(path) {
  const block = element("div", path.agrees ? "path agrees" : "path");
  const facts = [`Path ${path.index + 1}`, path.answer === null ? "no answer" : `answer ${path.answer}`];
  facts.push(`${path.tokens} tokens${path.finish === "length" ? ", cut off" : ""}`);
  if (path.agrees) facts.push("agrees with the vote");
  if (path.kept) facts.push(pill("kept", "promoted"));
  block.append(about(facts), element("p", "text", path.text));
  return block;
}

function pathsOf(item) {
  const details = element("details");
  const all = item.drawn.length === item.paths;
  const label = all ? `${item.paths} paths` : `First ${item.drawn.length} of ${item.paths} paths`;
  details.append(element("summary", "", label));
  // Paths are made when they are first looked at: a page of cards stays light.
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...item.drawn.map(pathBlock));
  });
  return details;
}

function card(item) {
  const made = element("div", "card");
  const facts = [item.dataset, item.id, `round ${item.round}`];
  if (item.kept !== null) facts.push(item.kept ? pill("kept", "promoted") : pill("not kept", ""));
  if (item.tied) facts.push(pill("tied", ""));
  facts.push(`vote share ${percent(item.confidence)}`);
  const votes = element("ul", "votes");
  for (const [answer, count] of item.classes) {
    votes.append(voteRow(answer, count, item.paths, answer === item.winner));
  }
  if (item.silent) votes.append(voteRow("no answer", item.silent, item.paths, false));
  made.append(about(facts), element("p", "question", item.question), votes, pathsOf(item));
  return made;
}

function presets(anchor) {
  const [target, query] = window.location.hash.slice(1).split(/\?(.*)/s);
  return target === anchor && query ? new URLSearchParams(query) : null;
}

function browse(root) {
  const items = JSON.parse(document.getElementById(root.dataset.source).textContent);
  for (const item of items) item.searchable = searchable(item);
  const form = root.querySelector("form");
  const [previous, next] = root.querySelectorAll(".pager button");
  let page = 0;

  function matching() {
    const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const test = TESTS[form.elements.show.value] ?? TESTS.all;
    const round = form.elements.round?.value ?? "";
    return items.filter((item) => test(item) && (round === "" || String(item.round) === round)
      && words.every((word) => item.searchable.includes(word)));
  }

  function draw() {
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = found.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
    root.querySelector(".found").textContent =
      found.length === items.length ? `${items.length} questions` : `${found.length} of ${items.length} questions`;
    root.querySelector(".cards").replaceChildren(...shown.map(card));
    root.querySelector(".pager span").textContent = `Page ${page + 1} of ${pages}`;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
  }

  function preset() {
    const wanted = presets(root.dataset.anchor);
    if (wanted === null) return;
    for (const name of ["q", "show", "round"]) {
      if (wanted.has(name) && form.elements[name]) form.elements[name].value = wanted.get(name);
    }
    page = Number.parseInt(wanted.get("page") ?? "1", 10) - 1 || 0;
    draw();
    root.scrollIntoView();
  }

  function restart() {
    page = 0;
    draw();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", restart);
  for (const button of [previous, next]) {
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      draw();
      root.scrollIntoView();
    });
  }
  window.addEventListener("hashchange", preset);
  draw();
  preset();
}

document.querySelectorAll(".browser").forEach(browse);
// Paper has no buttons: what is folded on screen is printed open.
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not(.card details)").forEach((each) => { each.open = true; });
});
