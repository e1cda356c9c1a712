// The table of texts. Rows exist only where the window is; text is only ever set through textContent.
// A link can preset it: #run-1-texts?q=apples&step=round-1-paths&was=kept&from=2&to=4&sort=-score&open=12

const COLUMNS = [
  { key: "text", title: "Text", kind: "said", width: "minmax(0, 1fr)" },
  { key: "step", title: "Step", kind: "from", width: "minmax(0, 170px)" },
  { key: "answer", title: "Answer", kind: "answer", width: "minmax(0, 110px)" },
  { key: "score", title: "Score", kind: "n score", width: "64px" },
  { key: "tokens", title: "Tokens", kind: "n tokens", width: "64px" },
  { key: "was", title: "Outcome", kind: "was", width: "112px" },
];
const ONLY_WIDE = ["step", "answer"];
const TONES = { kept: "good", chosen: "good", right: "good", rejected: "bad", wrong: "bad" };
const ABOVE_AND_BELOW = 8;
const SETTLED_MS = 120;
const FIELDS = ["q", "step", "was", "from", "to", "sort"];

// The texts of a run and what is asked of them; knows nothing of the page.
class Texts {
  constructor(data) {
    this.data = data;
    this.count = data.text.length;
    this.score = data.scores.map((told) => (told.length ? told[0][1] : null));
    this.prompts = null;
  }

  outcomes(i) {
    return this.data.outcomes.filter((_, bit) => this.data.was[i] & (1 << bit));
  }

  // Made at the first search: most who open a page never search.
  fold() {
    if (this.prompts !== null) return;
    const { data } = this;
    this.prompts = data.prompts.map((text) => text.toLowerCase());
    this.own = data.text.map((text, i) => `${text}\n${data.answer[i] ?? ""}\n${data.id[i]}`.toLowerCase());
  }

  saying(words) {
    if (!words.length) return () => true;
    this.fold();
    const within = words.map((word) => this.prompts.map((prompt) => prompt.includes(word)));
    return (i) => words.every((word, k) => this.own[i].includes(word) || within[k][this.data.asked[i]]
      || within[k][this.data.about[i]]);
  }

  matching({ words, step, was, from, to }) {
    const { data, score } = this;
    const says = this.saying(words);
    const place = step === "" ? -1 : data.steps.indexOf(step);
    const bit = was === "" ? 0 : 1 << data.outcomes.indexOf(was);
    const scored = from !== null || to !== null;
    const fits = (i) => (place < 0 ? step === "" : data.step[i] === place)
      && (bit === 0 || (data.was[i] & bit) !== 0)
      && (!scored || (score[i] !== null && (from === null || score[i] >= from) && (to === null || score[i] <= to)))
      && says(i);
    const found = [];
    for (let i = 0; i < this.count; i += 1) if (fits(i)) found.push(i);
    return found;
  }

  value(key) {
    const { data, score } = this;
    if (key === "score") return (i) => score[i];
    if (key === "step") return (i) => data.step[i];
    if (key === "was") return (i) => (data.was[i] === 0 ? null : this.outcomes(i).join());
    return (i) => (data[key][i] === "" ? null : data[key][i]);
  }

  // What has no value stands last, whichever way round.
  sort(found, key, turned) {
    const value = this.value(key);
    const sign = turned ? -1 : 1;
    const known = found.filter((i) => value(i) !== null);
    const compare = typeof value(known[0]) === "number" ? (a, b) => a - b
      : new Intl.Collator(undefined, { numeric: true }).compare;
    known.sort((a, b) => sign * compare(value(a), value(b)) || a - b);
    return [...known, ...found.filter((i) => value(i) === null)];
  }
}

function marked(tag, className, text, words) {
  const made = element(tag, className, "");
  const low = text.toLowerCase();
  // Some letters change their length in lower case: then no place in one is a place in the other.
  const sought = low.length === text.length ? words : [];
  let at = 0;
  while (at < text.length) {
    let next = -1;
    let length = 0;
    for (const word of sought) {
      const found = low.indexOf(word, at);
      if (found >= 0 && (next < 0 || found < next)) [next, length] = [found, word.length];
    }
    if (next < 0) break;
    made.append(text.slice(at, next), element("mark", "", text.slice(next, next + length)));
    at = next + length;
  }
  made.append(text.slice(at));
  return made;
}

// Of a long text in one line, the part in which something was found.
function around(text, words) {
  const line = text.slice(0, 2000).replace(/\s+/g, " ").trim();
  const low = line.toLowerCase();
  const found = Math.min(...words.map((word) => low.indexOf(word)).filter((at) => at >= 0), Infinity);
  return found < 60 || found === Infinity ? line : `… ${line.slice(found - 30)}`;
}

function shown(number) {
  return number === null ? "–" : String(Math.round(number * 100) / 100).replace("-", "\u2212");
}

function pills(outcomes) {
  return outcomes.map((name) => pill(name, TONES[name] ?? ""));
}

function tableOfTexts(root) {
  const source = document.getElementById(root.dataset.source);
  const texts = new Texts(JSON.parse(source.textContent));
  source.remove();
  const { data } = texts;
  const form = root.querySelector("form");
  const rows = root.querySelector(".rows");
  const view = root.querySelector(".window");
  const space = root.querySelector(".space");
  const reader = root.querySelector(".reader");
  // A column of nothing but dashes only takes room.
  const columns = COLUMNS.filter(({ key }) => data.text.some((_, i) => texts.value(key)(i) !== null));
  let words = [];
  let found = [];
  let at = 0;
  let waiting = 0;

  function rowHeight() {
    return Number.parseFloat(getComputedStyle(rows).getPropertyValue("--row"));
  }

  function cell(column, i) {
    if (column.key === "text") {
      const made = element("div", "cell said");
      const asked = data.prompts[data.about[i]] || data.prompts[data.asked[i]];
      made.append(marked("p", "asked", around(asked, words) || data.id[i], words),
        marked("p", "", around(data.text[i], words), words));
      return made;
    }
    const made = element("div", `cell ${column.kind}`);
    if (column.key === "was") made.append(...pills(texts.outcomes(i)));
    else if (column.key === "step") made.append(element("span", "", data.steps[data.step[i]]));
    else if (column.key === "answer") made.append(element("span", "", data.answer[i] ?? "–"));
    else made.textContent = shown(column.key === "score" ? texts.score[i] : data.tokens[i]);
    if (made.textContent === "–") made.classList.add("none");
    made.title = made.textContent;
    return made;
  }

  function line(place, height) {
    const i = found[place];
    const made = element("div", place === at ? "line at" : "line");
    made.id = `${root.dataset.anchor}-${place}`;
    made.style.top = `${place * height}px`;
    made.setAttribute("role", "row");
    made.setAttribute("aria-rowindex", String(place + 2));
    made.setAttribute("aria-selected", String(place === at));
    for (const column of columns) {
      const one = cell(column, i);
      one.setAttribute("role", "gridcell");
      made.append(one);
    }
    made.addEventListener("click", () => { at = place; open(); });
    return made;
  }

  function draw() {
    const height = rowHeight();
    space.style.height = `${found.length * height}px`;
    const first = Math.max(0, Math.floor(view.scrollTop / height) - ABOVE_AND_BELOW);
    const last = Math.min(found.length, Math.ceil((view.scrollTop + view.clientHeight) / height) + ABOVE_AND_BELOW);
    const lines = [];
    for (let place = first; place < last; place += 1) lines.push(line(place, height));
    if (!found.length) lines.push(element("p", "nothing", "No text fits. Take a word or a filter away."));
    space.replaceChildren(...lines);
    rows.setAttribute("aria-rowcount", String(found.length + 1));
    if (found.length) rows.setAttribute("aria-activedescendant", `${root.dataset.anchor}-${at}`);
    else rows.removeAttribute("aria-activedescendant");
  }

  function move(to) {
    at = Math.max(0, Math.min(found.length - 1, to));
    const height = rowHeight();
    const top = at * height;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + height > view.scrollTop + view.clientHeight) view.scrollTop = top + height - view.clientHeight;
    draw();
  }

  function number(name) {
    const value = Number.parseFloat(form.elements[name].value);
    return Number.isNaN(value) ? null : value;
  }

  function search() {
    words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = texts.matching({
      words, step: form.elements.step.value, was: form.elements.was.value, from: number("from"), to: number("to"),
    });
    const sort = form.elements.sort.value;
    if (sort) found = texts.sort(found, sort.replace("-", ""), sort.startsWith("-"));
    const all = texts.count.toLocaleString("en");
    const left = data.total > texts.count ? ` (of ${data.total.toLocaleString("en")} in the run)` : "";
    const these = found.length === texts.count ? all : `${found.length.toLocaleString("en")} of ${all}`;
    root.querySelector(".found").textContent = `${these} texts${left}`;
    for (const head of root.querySelectorAll("[aria-sort]")) {
      const key = head.dataset.key;
      const order = sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none";
      head.setAttribute("aria-sort", order);
      const arrow = { ascending: " ↑", descending: " ↓", none: "" }[order];
      head.firstChild.textContent = COLUMNS.find((column) => column.key === key).title + arrow;
    }
    at = 0;
    view.scrollTop = 0;
    draw();
  }

  function remember() {
    const kept = new URLSearchParams();
    for (const name of FIELDS) if (form.elements[name].value) kept.set(name, form.elements[name].value);
    const query = kept.toString();
    history.replaceState(null, "", `#${root.dataset.anchor}${query ? `?${query}` : ""}`);
  }

  function changed() {
    clearTimeout(waiting);
    waiting = setTimeout(() => { search(); remember(); }, SETTLED_MS);
  }

  function fact(list, name, value) {
    const box = element("div");
    box.append(element("dt", "", name), element("dd", "", value));
    list.append(box);
  }

  function read() {
    const i = found[at];
    const head = element("header");
    const title = element("h3", "", data.steps[data.step[i]]);
    title.id = reader.getAttribute("aria-labelledby");
    head.append(title, ...pills(texts.outcomes(i)));
    const body = element("div", "body");
    const parts = [["Asked", data.prompts[data.asked[i]]], ["Judged", data.prompts[data.about[i]]]];
    for (const [name, text] of parts) {
      if (text) body.append(element("h4", "", name), marked("pre", "", text, words));
    }
    body.append(element("h4", "", "Written"), marked("pre", "written", data.text[i], words));
    const facts = element("dl");
    if (data.id[i]) fact(facts, "Of", data.id[i]);
    if (data.answer[i] !== null) fact(facts, "Answer", data.answer[i]);
    if (data.tokens[i] !== null) fact(facts, "Tokens", String(data.tokens[i]));
    for (const [scorer, value] of data.scores[i]) fact(facts, data.steps[scorer], shown(value));
    body.append(facts);
    const foot = element("footer");
    foot.append(turn("Previous", -1), element("span", "muted", `${(at + 1).toLocaleString("en")} of ${found.length.toLocaleString("en")}`), turn("Next", 1), close());
    reader.replaceChildren(head, body, foot);
  }

  function turn(title, by) {
    const made = element("button", "", title);
    made.type = "button";
    made.disabled = at + by < 0 || at + by >= found.length;
    made.addEventListener("click", () => { move(at + by); read(); });
    return made;
  }

  function close() {
    const made = element("button", "", "Close");
    made.type = "button";
    made.addEventListener("click", () => reader.close());
    return made;
  }

  function open() {
    if (!found.length) return;
    move(at);
    read();
    reader.showModal();
  }

  const page = () => Math.max(1, Math.floor(view.clientHeight / rowHeight()) - 1);
  const KEYS = {
    ArrowDown: () => move(at + 1), ArrowUp: () => move(at - 1), PageDown: () => move(at + page()),
    PageUp: () => move(at - page()), Home: () => move(0), End: () => move(found.length - 1), Enter: open, " ": open,
  };

  function key(event) {
    if (event.target !== rows || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  }

  function headings() {
    const head = element("div");
    head.setAttribute("role", "row");
    for (const { key: name, title, kind } of columns) {
      const one = element("div", kind);
      one.setAttribute("role", "columnheader");
      one.setAttribute("aria-sort", "none");
      one.dataset.key = name;
      const button = element("button", "", title);
      button.type = "button";
      button.addEventListener("click", () => {
        const now = form.elements.sort.value;
        // Of numbers, the greatest are sought first.
        const first = ["score", "tokens"].includes(name) ? [`-${name}`, name] : [name, `-${name}`];
        form.elements.sort.value = now === first[0] ? first[1] : now === first[1] ? "" : first[0];
        search();
        remember();
      });
      one.append(button);
      head.append(one);
      for (const [mark, sign] of [["", "↑"], ["-", "↓"]]) {
        const option = element("option", "", `${title} ${sign}`);
        option.value = mark + name;
        form.elements.sort.append(option);
      }
    }
    root.querySelector(".head").replaceChildren(head);
    const widths = (kept) => kept.map(({ width }) => width).join(" ");
    rows.style.setProperty("--all", widths(columns));
    rows.style.setProperty("--few", widths(columns.filter(({ key }) => !ONLY_WIDE.includes(key))));
    root.classList.toggle("unscored", !columns.some(({ key }) => key === "score"));
  }

  function preset() {
    const wanted = presets(root.dataset.anchor);
    if (wanted === null) return;
    for (const name of FIELDS) form.elements[name].value = wanted.get(name) ?? "";
    search();
    root.scrollIntoView();
    const place = Number.parseInt(wanted.get("open") ?? "", 10);
    if (place >= 1 && place <= found.length) { at = place - 1; open(); }
  }

  const seen = data.was.reduce((all, bits) => all | bits, 0);
  data.outcomes.forEach((name, bit) => {
    if (seen & (1 << bit)) form.elements.was.append(element("option", "", name));
  });
  headings();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", changed);
  rows.addEventListener("keydown", key);
  view.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  window.addEventListener("resize", draw);
  window.addEventListener("hashchange", preset);
  reader.addEventListener("close", () => rows.focus({ preventScroll: true }));
  reader.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { move(at + by); read(); }
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !reader.open) {
      event.preventDefault();
      form.elements.q.focus();
    }
  });
  search();
  preset();
}

// After the first frame: what can be seen at once does not wait for tens of thousands of texts.
requestAnimationFrame(() => setTimeout(() => {
  document.querySelectorAll(".table-of-texts").forEach(tableOfTexts);
}));
