// Looks at a page from within, for vtg_lib/book/browser.py: catches its errors, sets the theme, and leaves what it
// finds in the document.
(() => {
  const theme = "THEME";
  const errors = [];
  addEventListener("error", (e) => errors.push(e.message || String(e.target && e.target.src)), true);
  addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));
  try {
    localStorage.setItem("mode", theme);
    localStorage.setItem("theme", theme);
  } catch (e) { /* a page from a file may have no storage */ }

  const rgb = (text) => {
    const n = (text.match(/[\d.]+/g) || []).map(Number);
    return n.length === 3 ? [...n, 1] : n;
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const luminance = (color) => {
    const v = color.slice(0, 3).map((x) => x / 255).map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2];
  };
  // Charts are drawn on white, and in the dark the page's style turns their lightness over.
  const turned = (color) => theme === "dark" ? color.map((x, i) => (i < 3 ? 0.88 * 255 - 0.76 * x : x)) : color;
  const behind = (node) => {
    const found = [];
    for (let e = node; e; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color[3] > 0) found.push(color);
      if (color[3] === 1) break;
    }
    const ground = theme === "dark" ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return found.reverse().reduce((below, color) => over(color, below), ground);
  };
  // Of a chart's text: the cell of a grid that it stands on, else white.
  const grids = new Map();
  const cellBehind = (svg, box) => {
    if (!grids.has(svg)) {
      const cells = [...svg.querySelectorAll(".mark-rect path")];
      grids.set(svg, cells.map((e) => [e.getBoundingClientRect(), rgb(getComputedStyle(e).fill), +getComputedStyle(e).opacity]));
    }
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const cell = grids.get(svg).find(([c, , seen]) => seen && c.left <= x && x <= c.right && c.top <= y && y <= c.bottom);
    return turned(cell ? cell[1] : [255, 255, 255, 1]);
  };
  const unseen = "script, style, noscript, .MathJax, mjx-container, .headerlink, .sr-only, .visually-hidden";

  const faint = () => {
    const found = [];
    const walker = document.createTreeWalker(document.querySelector("main") || document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode()); ) {
      const e = node.parentElement;
      if (!node.data.trim() || !e || e.closest(unseen)) continue;
      const style = getComputedStyle(e);
      const box = e.getBoundingClientRect();
      const hidden = style.visibility === "hidden" || style.display === "none" || +style.opacity === 0;
      if (hidden || !box.width || !box.height) continue;
      const drawn = e.closest(".vtg-chart svg");
      const back = drawn ? cellBehind(drawn, box) : behind(e);
      const ink = drawn ? turned(rgb(style.fill)) : rgb(style.color);
      const [high, low] = [luminance(over(ink, back)), luminance(back)].sort((x, y) => y - x);
      const ratio = (high + 0.05) / (low + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
      if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(1)}: ${node.data.trim().slice(0, 40)}`);
    }
    return found;
  };
  const charts = () => [...document.querySelectorAll("figure.vtg > .vtg-spec")].map((spec) => spec.parentElement);
  const named = (figure) => figure.querySelector("img").alt.slice(0, 60);
  const answers = (figure) => {
    document.querySelectorAll("#vg-tooltip-element").forEach((tip) => tip.classList.remove("visible"));
    return [...figure.querySelectorAll("svg .role-mark :is(path, line)")].reverse().some((mark) => {
      const { x, y, width, height } = mark.getBoundingClientRect();
      const at = { bubbles: true, clientX: x + width / 2, clientY: y + height / 2 };
      for (const kind of ["mouseover", "mousemove"]) mark.dispatchEvent(new MouseEvent(kind, at));
      for (const kind of ["pointerover", "pointermove"]) mark.dispatchEvent(new PointerEvent(kind, at));
      return document.querySelector("#vg-tooltip-element.visible") !== null;
    });
  };
  const report = () => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.mode = theme;
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
    // Where the scripts could not be installed, the pictures are what is to be seen.
    const upgraded = document.querySelector('script[src*="charts.js"]') ? charts() : [];
    const ids = [...document.querySelectorAll('a[href^="#"]')].map((a) => decodeURIComponent(a.getAttribute("href").slice(1)));
    const out = document.createElement("script");
    out.type = "application/json";
    out.id = "vtg-look";
    out.textContent = JSON.stringify({
      "low contrast": faint(),
      "scrolls sideways": root.scrollWidth > innerWidth + 1 ? [`${root.scrollWidth} px`] : [],
      "script errors": errors,
      "outside requests": performance.getEntriesByType("resource").map((r) => r.name).filter((n) => /^https?:/.test(n)),
      "pictures without words": [...document.querySelectorAll("main img")].filter((i) => !i.alt.trim()).map((i) => i.src.slice(0, 60)),
      "charts not drawn": upgraded.filter((figure) => !figure.querySelector(".vtg-chart svg")).map(named),
      "charts that tell nothing": upgraded.filter((figure) => figure.querySelector(".vtg-chart svg") && !answers(figure)).map(named),
      "dead links": ids.filter((id) => id && !document.getElementById(id) && !document.getElementsByName(id).length),
    });
    document.body.append(out);
  };
  addEventListener("load", () => setTimeout(report, 1500));
})();
