"use strict";
(() => {
  const root = document.documentElement;
  const by = (id) => document.getElementById(id);

  // Theme: what the system prefers, until the reader chooses.
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  const theme = by("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `${theme.textContent} colours`); };
  theme.hidden = false;
  label();
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); recolour(); });
  preferred.addEventListener("change", () => { label(); recolour(); });

  // Figures: drawn when they come into view, in the theme's colours.
  const figures = JSON.parse(by("figures").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"], toImageButtonOptions: { format: "svg" } };
  let printing = false; // Paper is white, whatever the theme.
  const colours = () => {
    if (printing) return { ink: "#000000", line: "#bbbbbb", paper: "#ffffff" };
    const style = getComputedStyle(root);
    return { ink: style.getPropertyValue("--ink").trim(), line: style.getPropertyValue("--line").trim(), paper: style.getPropertyValue("--paper").trim() };
  };
  const themed = (layout) => {
    const { ink, line, paper } = colours();
    const size = printing ? 9 : 12;
    const axis = (own) => ({ ...own, gridcolor: line, linecolor: line, tickcolor: line });
    return {
      ...layout, annotations: layout.annotations.map((each) => ({ ...each, bgcolor: paper, borderpad: 0, font: { size } })), xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size, family: getComputedStyle(document.body).fontFamily }, dragmode: coarse ? false : "zoom",
      hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink },
    };
  };
  const shaped = (plot, layout) => (printing ? { ...themed(layout), width: plot.clientWidth } : themed(layout));
  const drawn = new Set();
  const draw = (plot) => {
    if (drawn.has(plot)) return;
    drawn.add(plot);
    const figure = figures[plot.dataset.figure];
    Plotly.newPlot(plot, figure.data, shaped(plot, figure.layout), config).then(() => { plot.dataset.drawn = ""; });
  };
  const recolour = () => drawn.forEach((plot) => Plotly.react(plot, figures[plot.dataset.figure].data, shaped(plot, figures[plot.dataset.figure].layout), config));
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver((seen) => seen.filter((each) => each.isIntersecting).forEach((each) => { watch.unobserve(each.target); draw(each.target); }), { rootMargin: "300px" });
    plots.forEach((plot) => watch.observe(plot));
  } else {
    plots.forEach(draw);
  }
  let opened = [];
  window.addEventListener("beforeprint", () => {
    if (printing) return;
    printing = true;
    root.classList.add("paper");
    opened = [...document.querySelectorAll("details:not(#tools details):not([open])")];
    opened.forEach((each) => { each.open = true; });
    recolour();
    plots.forEach(draw);
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    root.classList.remove("paper");
    opened.forEach((each) => { each.open = false; });
    recolour();
    drawn.forEach((plot) => Plotly.Plots.resize(plot));
  });

  // Tables: sorting.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const found = /^[−+-]?[\d,]*\.?\d+/.exec(cell.textContent.trim());
    return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : null;
  };
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const original = [...body.rows];
    const sort = (column) => {
      const head = heads[column];
      const words = head.classList.contains("l");
      const before = head.getAttribute("aria-sort");
      const first = words ? "ascending" : "descending";
      const way = before === null ? first : before === first ? (first === "ascending" ? "descending" : "ascending") : null;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      const rows = [...original];
      if (way) {
        head.setAttribute("aria-sort", way);
        const sign = way === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          if (words) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
          const [x, y] = [key(a, column), key(b, column)];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (x - y);
        });
      }
      body.append(...rows);
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => sort(column));
    });
    return { heads, original };
  };
  document.querySelectorAll("table.sortable").forEach(sortable);

  // The table of all figures: filtering, columns, copying.
  const table = by("comparison-table");
  if (!table) return;
  const { heads, original } = sortable(table);
  by("tools").hidden = false;
  by("tools").addEventListener("submit", (event) => event.preventDefault());
  by("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    original.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    });
    say(`${shown} of ${original.length} systems shown`);
  });
  const show = (column, visible) => [...table.rows].forEach((row) => row.cells[column].classList.toggle("off", !visible));
  heads.forEach((head, column) => {
    if (column === 0) return;
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !("hide" in head.dataset);
    const line = document.createElement("label");
    line.append(box, ` ${head.textContent}`);
    by("columns").append(line);
    box.addEventListener("change", () => show(column, box.checked));
    show(column, box.checked);
  });
  // The list of columns lies over the table: a click beside it or Escape takes it away.
  const columns = by("tools").querySelector("details");
  document.addEventListener("pointerdown", (event) => { if (!columns.contains(event.target)) columns.open = false; });
  columns.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    columns.open = false;
    columns.querySelector("summary").focus();
  });
  const say = (text) => { by("said").textContent = text; };
  const seen = () => [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells].filter((cell) => !cell.classList.contains("off")).map((cell) => cell.textContent.trim()));
  const formula = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
  const csv = (rows) => rows.map((row) => row.map((text) => `"${formula(text).replaceAll('"', '""')}"`).join(",")).join("\n");
  const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replace(/([\\`*_[\]|])/g, "\\$1");
  const markdown = ([head, ...rows]) => [head, head.map(() => "---"), ...rows].map((row, place) => `| ${row.map((text) => (place === 1 ? text : escape(text))).join(" | ")} |`).join("\n");
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    const rows = seen();
    await copy(button.dataset.copy === "csv" ? csv(rows) : markdown(rows));
    say(`${rows.length - 1} rows copied`);
  }));
})();
