"use strict";
// Sorting of tables: first click up, second down, third back to the paper's order.
(() => {
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  function keyOf(row, column) {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent : cell.dataset.key;
  }

  // What has no number comes last, whichever way the rest is sorted.
  function compare(first, second, direction) {
    if (first === "" || second === "") return (first === "") - (second === "");
    const numbers = Number(first) - Number(second);
    const order = Number.isNaN(numbers)
      ? first.localeCompare(second, "en", { numeric: true }) : numbers;
    return direction === "ascending" ? order : -order;
  }

  function sort(table, rows, heading, column) {
    const direction = NEXT[heading.getAttribute("aria-sort")];
    for (const other of table.querySelectorAll("[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", direction);
    const sorted = direction === "none" ? rows : [...rows].sort(
      (one, two) => compare(keyOf(one, column), keyOf(two, column), direction));
    table.tBodies[0].append(...sorted);
    page.say(direction === "none" ? "The paper's order" : `Sorted, ${direction}`);
  }

  for (const table of document.querySelectorAll("table.grid")) {
    const rows = [...table.tBodies[0].rows];
    // Names of groups stay in sight beside the first column, as wide as that is.
    new ResizeObserver(([first]) => {
      table.style.setProperty("--first", `${first.target.offsetWidth}px`);
    }).observe(rows[0].cells[0]);
    [...table.querySelectorAll("[aria-sort]")].forEach((heading, column) => {
      heading.querySelector("button").addEventListener(
        "click", () => sort(table, rows, heading, column));
    });
  }
})();
