"use strict";
// The runs behind a cell: shown while it is pointed at or has the focus, kept open by a click,
// a tap or Enter, closed by Escape.
(() => {
  const panel = document.getElementById("details");
  const WAIT = 150, GRACE = 250; // milliseconds before it shows, and before it goes
  let shown = null, kept = false, timer = 0, returning = false;

  const percent = (value, epoch) =>
    value === null ? "–" : `${value.toFixed(2)} (epoch ${epoch})`;

  function runsTable(spec) {
    const heads = ["run", "seed", "state", "best %", "last %", "epochs", "on"];
    const row = (run) => page.make("tr", { className: run.state },
      ...[run.run, run.seed, run.reason ? `${run.state}: ${run.reason}` : run.state,
        percent(run.best, run.bestEpoch), run.last === null ? "–" : run.last.toFixed(2),
        `${run.done}/${spec.of}`, run.where ?? "–"].map((text) => page.make("td", {}, `${text}`)));
    const table = page.make("table", {},
      page.make("thead", {}, page.make("tr", {},
        ...heads.map((text) => page.make("th", { scope: "col" }, text)))),
      page.make("tbody", {}, ...spec.runs.map(row)));
    return page.make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Runs" },
      table);
  }

  function experiment(specId, label) {
    const spec = page.data.specs[specId];
    const parts = [page.make("p", { className: "about" }, label ? `Compared with ${label}: ` : "",
      spec.about, " ", page.make("code", {}, specId))];
    if (spec.runs.length) parts.push(runsTable(spec));
    else parts.push(page.make("p", { className: "none" }, "No runs yet."));
    if (spec.more) parts.push(page.make("p", {}, `and ${spec.more} more runs`));
    return parts;
  }

  function fill(found) {
    const close = page.make("button", { type: "button", className: "close", ariaLabel: "Close" },
      "×");
    close.addEventListener("click", hide);
    const figures = page.make("dl", { className: "figures" }, ...found.figures.map(
      ([name, text]) => page.make("div", {}, page.make("dt", {}, name),
        page.make("dd", {}, text || "–"))));
    panel.replaceChildren(
      page.make("h3", { id: "details-title" }, found.title), close, figures,
      ...experiment(found.spec, null),
      ...(found.compared ? experiment(found.compared[1], found.compared[0]) : []),
      page.make("p", {}, "To train it: ", page.command(found.train)),
      page.make("p", {}, "Where it comes from: ", page.command(found.explain)));
  }

  // Below the cell, or above it where there is no room; a sheet at the bottom of a phone.
  function put(cell) {
    const box = cell.getBoundingClientRect();
    const sheet = matchMedia("(max-width: 640px)").matches;
    panel.classList.toggle("sheet", sheet);
    const width = panel.offsetWidth, height = panel.offsetHeight;
    const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - width - 8));
    const fits = box.bottom + height + 8 < innerHeight || box.top < height + 8;
    const top = fits ? box.bottom + 4 : box.top - height - 4;
    panel.style.left = sheet ? "" : `${left + scrollX}px`;
    panel.style.top = sheet ? "" : `${top + scrollY}px`;
  }

  function show(cell, keep) {
    clearTimeout(timer);
    if (shown !== cell) {
      shown?.classList.remove("shown");
      shown = cell;
      fill(page.data.cells[cell.dataset.cell]);
      panel.hidden = false;
      cell.classList.add("shown");
      put(cell);
    }
    kept = keep;
    panel.classList.toggle("kept", keep);
  }

  function hide() {
    clearTimeout(timer);
    if (!shown) return;
    const button = shown.querySelector("button");
    const inside = panel.contains(document.activeElement);
    shown.classList.remove("shown");
    panel.hidden = true;
    shown = null;
    kept = false;
    returning = true; // the focus comes back to the cell, which is not to open again
    if (inside) button?.focus();
    returning = false;
  }

  function later(action, wait) {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  }

  for (const cell of document.querySelectorAll("td[data-cell]")) {
    cell.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse" && !kept) later(() => show(cell, false), WAIT);
    });
    cell.addEventListener("pointerleave", () => { if (!kept) later(hide, GRACE); });
    cell.addEventListener("click", (event) => {
      if (getSelection().toString()) return; // the reader copies a value
      show(cell, true);
      if (event.detail === 0) panel.focus(); // by keyboard
    });
    const button = cell.querySelector("button");
    button?.addEventListener("focus", () => {
      if (!returning && button.matches(":focus-visible")) show(cell, false);
    });
    button?.addEventListener("blur", () => { if (!kept) later(hide, GRACE); });
  }

  panel.addEventListener("pointerenter", () => clearTimeout(timer));
  panel.addEventListener("pointerleave", () => { if (!kept) later(hide, GRACE); });
  panel.addEventListener("focusin", () => { clearTimeout(timer); kept = true; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("pointerdown", (event) => {
    if (!panel.contains(event.target) && !event.target.closest("td[data-cell]")) hide();
  });
  addEventListener("resize", () => { if (shown) put(shown); });
})();
