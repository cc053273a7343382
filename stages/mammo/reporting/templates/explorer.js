"use strict";
{
  // Figures come from the data, computed by the pipeline: here they are looked up, shown and drawn, never computed.
  const AT_ONCE = 24;  // cases of the list that are shown, and shown more at a time
  const QUIET = 300;  // ms without a move after which the figures are read aloud
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const byId = (id) => document.getElementById(id);
  const slider = byId("explorer-threshold");
  const rule = byId("explorer-rule");
  const prevalence = byId("explorer-prevalence");
  const SCORES = ["sensitivity", "specificity", "precision"];
  const BY_PREVALENCE = ["ppv", "recall_rate"];
  const IN_WORDS = { found: "found", false: "false positive", missed: "missed", healthy: "not recalled" };
  let shown = AT_ONCE;
  let waiting = 0;

  const text = (thousandths) => (thousandths / 1000).toFixed(3);
  const grouped = (count) => count.toLocaleString("en-US");

  /** Value, low and high of every score at a stop, by key. */
  function scoresAt(stop) {
    const found = {};
    const rows = [[SCORES, data.scores[stop]], [BY_PREVALENCE, data.atPrevalence[prevalence.value][stop]]];
    for (const [keys, numbers] of rows) keys.forEach((key, place) => { found[key] = numbers.slice(3 * place, 3 * place + 3); });
    return found;
  }

  /** A score in the form of the whole report: its value, and its interval on an axis from 0 to 1. */
  function showScore(row, [value, low, high]) {
    row.querySelector(".score b").textContent = text(value);
    row.querySelector(".score span").textContent = `(${text(low)}–${text(high)})`;
    const line = row.querySelector(".interval");
    line.setAttribute("x1", `${low / 10}%`);
    line.setAttribute("x2", `${high / 10}%`);
    row.querySelector("circle").setAttribute("cx", `${value / 10}%`);
  }

  /** A point of a curve, with the intervals of both coordinates as a cross. */
  function place(id, [x, left, right], [y, bottom, top]) {
    const [across, up] = byId(id).querySelectorAll("line");
    const circle = byId(id).querySelector("circle");
    const set = (element, values) => Object.entries(values).forEach(([name, value]) => element.setAttribute(name, value));
    const [cx, cy] = [x / 10, 100 - y / 10];
    set(circle, { cx, cy });
    set(across, { x1: left / 10, x2: right / 10, y1: cy, y2: cy });
    set(up, { x1: cx, x2: cx, y1: 100 - bottom / 10, y2: 100 - top / 10 });
  }

  function showFigures() {
    const stop = Number(slider.value);
    const scores = scoresAt(stop);
    const share = prevalence.selectedOptions[0].textContent.split(",")[0];
    byId("explorer-value").textContent = data.thresholds[stop];
    for (const row of document.querySelectorAll("#explorer-scores [data-score]")) showScore(row, scores[row.dataset.score]);
    for (const each of document.querySelectorAll("#explorer-scores .prevalence")) each.textContent = share;
    for (const cell of document.querySelectorAll(".matrix [data-cell]")) cell.textContent = grouped(data.counts[stop][cell.dataset.cell]);
    const [value, low, high] = scores.specificity;
    place("explorer-roc", [1000 - value, 1000 - high, 1000 - low], scores.sensitivity);
    place("explorer-pr", scores.sensitivity, scores.precision);
    rule.value = Object.values(data.locked).includes(stop) ? String(stop) : "";
    slider.setAttribute("aria-valuetext", data.thresholds[stop]);
  }

  /** The figures in one sentence, which a screen reader speaks. */
  function say() {
    const [found, recalled, missed, spared] = data.counts[slider.value];
    const cancers = `${grouped(found)} of ${grouped(found + missed)} ${data.unit} with cancer found`;
    const healthy = `${grouped(recalled)} of ${grouped(recalled + spared)} healthy ${data.unit} recalled`;
    byId("explorer-said").textContent = `At ${data.thresholds[slider.value]}: ${cancers}, ${healthy}.`;
  }

  const called = (test) => test.reach >= Number(slider.value);
  const outcome = (test) => (called(test) ? (test.label ? "found" : "false") : (test.label ? "missed" : "healthy"));

  function filtered() {
    const wanted = byId("cases-outcome").value;
    const group = byId("cases-group")?.selectedOptions[0];
    const finding = byId("cases-finding").selectedOptions[0];
    const fits = {
      "": () => true,
      any: (test) => test.findings.length > 0,
      none: (test) => test.findings.length === 0,
      kind: (test) => test.findings.includes(finding.dataset.kind),
    }[finding.value];
    return data.cases.filter((test) => (!wanted || outcome(test) === wanted) && fits(test)
      && (!group?.value || test.levels[group.value] === group.dataset.level));
  }

  const ORDERS = {
    highest: (a, b) => b.reach - a.reach || b.probability - a.probability,
    lowest: (a, b) => a.reach - b.reach || a.probability - b.probability,
    nearest: (a, b) => Math.abs(a.reach - slider.value) - Math.abs(b.reach - slider.value),
    name: (a, b) => (a.name < b.name ? -1 : 1),
  };

  /** An element with a class and text; whatever the text holds stays text. */
  function element(kind, className, content) {
    const made = document.createElement(kind);
    made.className = className;
    made.textContent = content;
    return made;
  }

  function picture(source, alt) {
    const image = document.createElement("img");
    image.src = source;
    image.alt = alt;
    return image;
  }

  function card(test) {
    const item = document.createElement("li");
    const kind = outcome(test);
    if (test.picture) {
      const pair = element("div", "pair", "");
      const [plain, warm] = [document.createElement("div"), document.createElement("div")];
      plain.append(picture(test.picture, `Test image ${test.name}`));
      warm.append(picture(test.picture, "The same image under"), picture(test.heat, "its heat map"));
      pair.append(plain, warm);
      item.append(pair);
    }
    const facts = element("p", "", `${test.label ? "Cancer" : "Healthy"}, ${test.probability}: `);
    facts.append(element("span", kind === "missed" || kind === "false" ? "bad" : "", IN_WORDS[kind]));
    item.append(element("p", "name", test.name), facts);
    const levels = test.levels.map((level, at) => level && `${data.groups[at]} ${level}`);
    const rest = [...levels, ...test.findings.map((found) => data.findings[found])].filter(Boolean);
    if (rest.length) item.append(element("p", "faint", rest.join(" · ")));
    return item;
  }

  function showCases() {
    const found = filtered().sort(ORDERS[byId("cases-order").value]);
    const more = byId("cases-more");
    const first = Math.min(shown, found.length);
    byId("cases-list").replaceChildren(...found.slice(0, first).map(card));
    byId("cases-said").textContent = `${grouped(found.length)} of ${grouped(data.cases.length)} images${first < found.length ? `, ${first} shown` : ""}`;
    more.hidden = first >= found.length;
    more.textContent = `Show ${Math.min(AT_ONCE, found.length - first)} more`;
  }

  function moved() {
    showFigures();
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      say();
      showCases();
    }, QUIET);
  }

  slider.addEventListener("input", moved);
  prevalence.addEventListener("change", showFigures);
  rule.addEventListener("change", () => {
    slider.value = rule.value;
    moved();
  });
  for (const id of ["cases-outcome", "cases-group", "cases-finding", "cases-order"]) {
    byId(id)?.addEventListener("change", () => {
      shown = AT_ONCE;
      showCases();
    });
  }
  byId("cases-more").addEventListener("click", () => {
    const next = shown;
    shown += AT_ONCE;
    showCases();
    const item = byId("cases-list").children[next];
    item.tabIndex = -1;  // the button may be gone: the reading goes on at the first that is new
    item.focus();
  });

  for (const hidden of document.querySelectorAll(".explorer .controls, #explorer-cases")) hidden.hidden = false;
  showFigures();
  showCases();
}
