"use strict";
// What the other scripts share: the page's data, making of elements, copying, printing.
// Texts of the database go into elements as text, never as HTML.
const page = {
  data: JSON.parse(document.getElementById("data").textContent),

  make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  },

  command(text) {
    return page.make("span", { className: "command" },
      page.make("code", {}, text),
      page.make("button", { type: "button", className: "copy" }, "copy"));
  },

  say(text) {
    document.getElementById("said").textContent = text;
  },

  // A page from disk may have no clipboard of its own; the old way works there.
  async copy(code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      const chosen = getSelection();
      chosen.selectAllChildren(code);
      return document.execCommand("copy");
    }
  },
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const done = await page.copy(button.previousElementSibling);
  button.textContent = done ? "copied" : "press Ctrl-C";
  page.say(done ? "Command copied" : "Command selected: press Ctrl-C to copy it");
  setTimeout(() => { button.textContent = "copy"; }, 2000);
});

// On paper nothing can be opened: the evidence of claims is printed, and closed again.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.claim:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
