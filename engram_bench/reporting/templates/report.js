"use strict";
// The list of cases: filter, sort, pages, and a row that opens. Texts of models reach the page through textContent alone.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [ID, STATE, SPLIT, CATEGORY, PATH, LINE, PROMPT, EXPECTED, BASELINE, CANDIDATE, REASON, REQUIRED, BASELINE_REASONING, CANDIDATE_REASONING] = Array(14).keys();
  const PAGE = 50, PRINTED = 500, DIFFED = 600;
  const byName = new Intl.Collator("en", { numeric: true }).compare;
  const rows = data.rows.map((row, position) => ({
    position,
    row,
    id: row[ID],
    state: data.states[row[STATE]],
    split: data.splits[row[SPLIT]],
    category: data.categories[row[CATEGORY]],
    source: `${data.paths[row[PATH]]}:${row[LINE]}`,
    text: "",
  }));
  const orders = {
    state: (a, b) => a.row[STATE] - b.row[STATE],
    case: (a, b) => byName(a.id, b.id),
    category: (a, b) => byName(a.category, b.category),
    split: (a, b) => a.row[SPLIT] - b.row[SPLIT],
  };
  const open = new Set();
  let sort = { key: "state", sign: 1 }, page = 0, size = PAGE, shown = [];

  const element = (id) => document.getElementById(id);
  const make = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // ── what is shown ────────────────────────────────────────────────────────────────────────────
  const select = () => {
    const state = document.querySelector("input[name=state]:checked").value;
    const split = element("split").value, category = element("category").value;
    const wanted = element("text").value.toLowerCase().trim();
    shown = rows.filter((each) =>
      (!state || each.state === state) && (!split || each.split === split) &&
      (!category || each.category === category) && (!wanted || haystack(each).includes(wanted)));
    const compare = orders[sort.key];
    shown.sort((a, b) => sort.sign * compare(a, b) || a.position - b.position);
  };
  const haystack = (each) =>
    (each.text ||= [each.id, each.category, each.source, ...each.row.slice(PROMPT, REQUIRED), ...each.row.slice(BASELINE_REASONING)].join("\n").toLowerCase());

  const draw = () => {
    const first = page * size, some = shown.slice(first, first + size);
    element("rows").replaceChildren(...some.flatMap((each) => [rowOf(each), ...(open.has(each) ? [detailOf(each)] : [])]));
    element("status").textContent = shown.length
      ? `${first + 1}–${first + some.length} of ${shown.length.toLocaleString("en")} cases`
      : "No case fits these filters";
    element("previous").disabled = page === 0;
    element("next").disabled = first + size >= shown.length;
    for (const button of document.querySelectorAll("[data-sort]")) {
      const header = button.closest("th");
      if (button.dataset.sort === sort.key) header.setAttribute("aria-sort", sort.sign > 0 ? "ascending" : "descending");
      else header.removeAttribute("aria-sort");
    }
  };
  const refresh = () => { page = 0; select(); draw(); };

  // ── rows ─────────────────────────────────────────────────────────────────────────────────────
  const rowOf = (each) => {
    const button = make("button", { type: "button", className: "toggle" });
    button.setAttribute("aria-label", `Prompt and answers of ${each.id}`);
    button.setAttribute("aria-expanded", open.has(each));
    const line = make("tr", { className: "row" },
      make("td", { className: "open" }, button),
      make("td", {}, make("span", { className: `state ${each.state.replace(" ", "-")}`, textContent: each.state })),
      cell(each.id + (each.row[REQUIRED] ? " (required)" : "")),
      cell(each.category),
      cell(each.split),
      cell(each.row[EXPECTED], "text"),
      cell(each.row[CANDIDATE], "text"));
    line.addEventListener("click", () => {
      if (String(getSelection())) return;
      const isOpen = !open.delete(each);
      if (isOpen) { open.add(each); line.after(detailOf(each)); } else line.nextElementSibling.remove();
      button.setAttribute("aria-expanded", isOpen);
    });
    return line;
  };
  const cell = (text, className = "") => make("td", { className, textContent: text, title: text, dir: "auto" });

  const detailOf = (each) => {
    const { row } = each, list = make("dl");
    const say = (name, ...content) => list.append(make("dt", { textContent: name }), make("dd", {}, ...content));
    say("prompt", block(row[PROMPT]));
    say("expected", block(row[EXPECTED]));
    say("baseline", block(row[BASELINE] || "(empty)"));
    if (row[BASELINE_REASONING]) say("baseline's reasoning", block(row[BASELINE_REASONING]));
    say("candidate", block(row[CANDIDATE] || "(empty)"));
    if (row[CANDIDATE_REASONING]) say("candidate's reasoning", block(row[CANDIDATE_REASONING]));
    if (row[REASON] && row[EXPECTED] !== row[CANDIDATE]) {
      const parts = difference(row[EXPECTED], row[CANDIDATE]);
      if (parts) say("difference", block("", ...parts));
      say("reason", row[REASON]);
    }
    say("pattern", make("code", { textContent: each.source }));
    const content = make("td", { colSpan: 7 }, make("h3", { textContent: each.id }), list);
    return make("tr", { className: "detail" }, content);
  };
  const block = (text, ...children) => make("pre", { textContent: text, dir: "auto" }, ...children);

  // ── difference: longest common subsequence of words ──────────────────────────────────────────
  const difference = (before, after) => {
    const a = words(before), b = words(after), m = a.length, n = b.length;
    if (m > DIFFED || n > DIFFED) return null;
    const length = Array.from({ length: m + 1 }, () => new Uint16Array(n + 1));
    for (let i = m - 1; i >= 0; i--)
      for (let j = n - 1; j >= 0; j--)
        length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    const runs = [];
    const add = (kind, text) => {
      if (runs.length && runs.at(-1).kind === kind) runs.at(-1).text += text;
      else runs.push({ kind, text });
    };
    let i = 0, j = 0;
    while (i < m || j < n) {
      if (i < m && j < n && a[i] === b[j]) { add("", a[i]); i++; j++; }
      else if (j >= n || (i < m && length[i + 1][j] >= length[i][j + 1])) add("del", a[i++]);
      else add("ins", b[j++]);
    }
    return runs.map(({ kind, text }) => (kind ? make(kind, { textContent: text }) : document.createTextNode(text)));
  };
  const words = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];

  // ── controls ─────────────────────────────────────────────────────────────────────────────────
  const fill = (id, names) => element(id).append(...names.map((name) => make("option", { value: name, textContent: name })));
  const present = new Set(rows.map((each) => each.split));
  fill("split", data.splits.filter((name) => present.has(name)));
  fill("category", [...data.categories].sort(byName));
  const form = document.querySelector(".tools");
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("[data-sort]"))
    button.addEventListener("click", () => {
      const { sort: key } = button.dataset;
      sort = { key, sign: sort.key === key ? -sort.sign : 1 };
      refresh();
    });
  const turn = (step) => { page += step; draw(); document.querySelector(".ledger").scrollIntoView({ block: "nearest" }); };
  element("previous").addEventListener("click", () => turn(-1));
  element("next").addEventListener("click", () => turn(1));

  // A printed page shows tables instead of folded lists, and more than one page of cases.
  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = folded();
    for (const each of unfolded) each.open = true;
    [size, page] = [PRINTED, 0];
    draw();
  });
  addEventListener("afterprint", () => {
    for (const each of unfolded) each.open = false;
    size = PAGE;
    draw();
  });
  element("ledger").hidden = false;
  refresh();
})();
