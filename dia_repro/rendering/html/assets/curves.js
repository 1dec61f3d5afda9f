"use strict";
// Learning curves: every seed thin, the mean thick; networks are switched on and off, epochs
// chosen by dragging or with buttons, a double click goes back to all of them.
(() => {
  const MEASURES = {
    test_top1: `${page.data.evaluated} accuracy (%)`, test_loss: `${page.data.evaluated} loss`,
    train_loss: "training loss",
  };
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [14, 5], [4, 2, 4, 8]];
  const HEIGHT = 320;
  const CROWD = 12; // networks beyond which single seeds only hide the means
  const ORDERS = 50; // a loss that spans more than this many times is drawn on powers of ten

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const meanOf = (figures) => figures.length
    ? figures.reduce((sum, one) => sum + one, 0) / figures.length : null;

  // At most eight of them, evenly apart; a loss that diverges has dozens.
  function powersOfTen(least, most) {
    const from = Math.floor(Math.log10(least)), to = Math.ceil(Math.log10(most));
    const step = Math.max(1, Math.ceil((to - from) / 8));
    const found = [];
    for (let power = from; power <= to; power += step) found.push(10 ** power);
    return found;
  }

  class Curves {
    constructor(box) {
      this.box = box;
      this.networks = page.data.charts[box.dataset.artifact].map(
        (one) => ({ ...one, ...page.data.specs[one.spec], on: true }));
      this.networks.forEach((one) => {
        one.runs = one.runs.filter((run) => run.series.test_top1);
      });
      this.epochs = [...new Set(this.networks.flatMap((one) => one.epochs))].sort((a, b) => a - b);
      this.measure = "test_top1";
      this.most = Math.max(...this.networks.map((one) => one.runs.length));
      this.seeds = this.most > 1 && this.networks.length <= CROWD;
      this.canvas = page.make("div", { className: "chart", role: "img", ariaLabel: "Learning curves" });
      box.replaceChildren(this.controls(), this.canvas, this.legend());
      const thinned = page.data.every > 1 ? ` One epoch in ${page.data.every} is drawn.` : "";
      const lines = this.most > 1 ? `Thin: each of up to ${this.most} seeds; thick: their mean.` : "";
      box.append(page.make("p", { className: "note" },
        `${lines}${thinned} Drag over the chart to zoom, double-click to go back.`));
    }

    controls() {
      const measure = page.make("select", { ariaLabel: "What is drawn" },
        ...Object.entries(MEASURES).map(([value, text]) => page.make("option", { value }, text)));
      measure.addEventListener("change", () => { this.measure = measure.value; this.draw(); });
      const bar = page.make("div", { className: "controls" }, measure);
      if (this.most > 1) bar.append(this.checkbox("each seed", this.seeds, (on) => { this.seeds = on; }));
      const button = (text, name, action) => {
        const made = page.make("button", { type: "button", ariaLabel: name, title: name }, text);
        made.addEventListener("click", action);
        bar.append(made);
      };
      button("all", "Show all networks", () => this.switchAll(true));
      button("none", "Hide all networks", () => this.switchAll(false));
      button("+", "Zoom in", () => this.zoom(0.25, -0.25));
      button("−", "Zoom out", () => this.zoom(-0.5, 0.5));
      button("←", "Earlier epochs", () => this.zoom(-0.25, -0.25));
      button("→", "Later epochs", () => this.zoom(0.25, 0.25));
      button("whole", "All epochs", () => this.zoom(-Infinity, Infinity));
      return bar;
    }

    checkbox(text, checked, action, ...before) {
      const input = page.make("input", { type: "checkbox", checked });
      input.addEventListener("change", () => { action(input.checked); this.draw(); });
      return page.make("label", {}, input, ...before, text);
    }

    legend() {
      const list = page.make("div", { className: "networks" });
      this.networks.forEach((one) => {
        const few = one.runs.length < this.most;
        const runs = few ? ` (${one.runs.length} of ${this.most} runs)` : "";
        one.swatch = page.make("canvas", { width: 56, height: 20, className: "swatch" });
        one.swatch.setAttribute("aria-hidden", "true");
        one.reading = page.make("output", {});
        const label = this.checkbox(`${one.label}${runs}`, true, (on) => { one.on = on; }, one.swatch);
        one.input = label.querySelector("input");
        list.append(page.make("div", {}, label, one.reading));
      });
      return list;
    }

    switchAll(on) {
      this.networks.forEach((one) => { one.on = on; one.input.checked = on; });
      this.draw();
    }

    // Figures at all epochs of the chart; a network need not have each.
    spread(one, run) {
      const known = new Map(one.epochs.map((epoch, at) => [epoch, run.series[this.measure][at]]));
      return this.epochs.map((epoch) => known.get(epoch) ?? null);
    }

    lines() {
      const thin = [], thick = []; // the means are drawn over the seeds
      this.networks.forEach((one) => {
        const runs = one.runs.map((run) => this.spread(one, run));
        const mean = this.epochs.map(
          (_, at) => meanOf(runs.map((run) => run[at]).filter((figure) => figure !== null)));
        if (this.seeds && runs.length > 1) {
          runs.forEach((figures) => thin.push({ one, figures, width: 1, alpha: 0.35 }));
        }
        thick.push({ one, figures: mean, width: 2.5, alpha: 1, mean: true });
      });
      return [...thin, ...thick];
    }

    draw() {
      const range = this.plot ? { ...this.plot.scales.x } : null;
      this.plot?.destroy();
      this.swatches();
      const lines = this.lines();
      this.means = lines.map((line, at) => ({ ...line, at: at + 1 })).filter((line) => line.mean);
      const seen = lines.filter((line) => line.one.on).flatMap((line) => line.figures)
        .filter((figure) => figure !== null);
      const least = seen.reduce((a, b) => Math.min(a, b), Infinity);
      const most = seen.reduce((a, b) => Math.max(a, b), -Infinity);
      const powers = this.measure !== "test_top1" && least > 0 && most > ORDERS * least;
      this.canvas.ariaLabel = `${MEASURES[this.measure]} by epoch of ` +
        `${this.networks.filter((one) => one.on).length} networks`;
      this.plot = new uPlot(this.options(lines, powers),
        [this.epochs, ...lines.map((line) => line.figures)], this.canvas);
      if (range && range.min !== null && range.min !== range.max) {
        this.plot.setScale("x", { min: range.min, max: range.max });
      }
    }

    options(lines, powers) {
      const ink = style("--ink"), faint = style("--line");
      const axis = {
        stroke: ink, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint, width: 1 },
        font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
      };
      const colour = (one) => style(`--curve-${one.colour}`);
      const few = this.epochs.length === 1;
      const text = (number) => (number !== 0 && (number >= 1e5 || number < 1e-3)
        ? number.toExponential(0).replace("+", "") : `${Number(number.toPrecision(3))}`);
      return {
        width: this.width(), height: HEIGHT, legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: true, y: true, uni: 25 } },
        scales: { x: { time: false }, y: powers ? { distr: 3 } : {} },
        axes: [
          { ...axis, label: "epoch", labelSize: 20, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] },
          { ...axis, label: MEASURES[this.measure], labelSize: 20, size: 58,
            ...(powers ? { splits: (_, __, least, most) => powersOfTen(least, most),
              filter: (_, ticks) => ticks } : {}),
            values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : text(tick))) },
        ],
        series: [{}, ...lines.map((line) => ({
          show: line.one.on, stroke: colour(line.one), width: line.width, alpha: line.alpha,
          dash: line.mean ? DASHES[line.one.dash % DASHES.length] : [], spanGaps: true,
          points: { show: few, size: 7, fill: colour(line.one) },
        }))],
        hooks: { setCursor: [(plot) => this.read(plot.cursor.idx)] },
      };
    }

    read(at) {
      for (const { one, figures } of this.means) {
        const figure = at === null || at === undefined ? null : figures[at];
        one.reading.value = figure === null || !one.on
          ? "" : `epoch ${this.epochs[at]}: ${Number(figure.toPrecision(4))}`;
      }
    }

    swatches() {
      for (const one of this.networks) {
        const pen = one.swatch.getContext("2d");
        pen.clearRect(0, 0, 56, 20);
        pen.strokeStyle = style(`--curve-${one.colour}`);
        pen.lineWidth = 5;
        pen.setLineDash(DASHES[one.dash % DASHES.length].map((length) => 2 * length));
        pen.beginPath();
        pen.moveTo(2, 10);
        pen.lineTo(54, 10);
        pen.stroke();
      }
    }

    zoom(low, high) {
      const { min, max } = this.plot.scales.x;
      const first = this.epochs[0], last = this.epochs[this.epochs.length - 1], span = max - min;
      const from = Math.max(first, min + low * span), to = Math.min(last, max + high * span);
      if (to - from >= Math.min(1, last - first)) this.plot.setScale("x", { min: from, max: to });
    }

    width() {
      return Math.max(200, this.box.clientWidth);
    }

    resize() {
      if (this.plot && this.plot.width !== this.width()) {
        this.plot.setSize({ width: this.width(), height: HEIGHT });
      }
    }
  }

  // Drawn when they come into sight: a page has many. What stands around a chart is there from the
  // start, so that nothing moves under a reader's finger.
  const waiting = new Map();
  const drawn = [];
  const begin = (box) => {
    const curves = waiting.get(box);
    if (!waiting.delete(box)) return;
    watch.unobserve(box);
    curves.draw();
    new ResizeObserver(() => curves.resize()).observe(box);
    drawn.push(curves);
  };
  const watch = new IntersectionObserver(
    (entries) => entries.filter((one) => one.isIntersecting).forEach((one) => begin(one.target)),
    { rootMargin: "400px" });
  for (const box of document.querySelectorAll(".curves")) {
    waiting.set(box, new Curves(box));
    watch.observe(box);
  }
  const redraw = () => drawn.forEach((one) => one.draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // Paper is white, whatever the screen is.
  addEventListener("beforeprint", () => {
    [...waiting.keys()].forEach(begin);
    document.documentElement.classList.add("paper");
    redraw();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    redraw();
  });
})();
