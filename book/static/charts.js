/* Exchanges pictures that come with a chart (vtg_lib/book/figures/interactive.py) for the chart. Without this script, or where
   it fails, the picture stays; in print it comes back. Colours in the dark and what is hidden: book.css. */
(function () {
  "use strict";
  const specs = document.querySelectorAll("figure.vtg > script.vtg-spec");
  if (!specs.length) return;

  const hints = {
    pick: "click the legend to single a line out (Shift: several)",
    zoom: "Ctrl + wheel zooms, dragging moves, a double click resets",
  };
  const hint = (spec) => {
    const line = document.createElement("p");
    line.className = "vtg-hint";
    const names = (spec.params || []).map((one) => one.name).filter((name) => name in hints);
    line.textContent = ["Point at it for numbers", ...names.map((name) => hints[name])].join(" · ");
    return line;
  };

  const exchange = async (script) => {
    const figure = script.parentElement;
    const picture = figure.querySelector("img");
    const spec = JSON.parse(script.textContent);
    const box = document.createElement("div");
    box.className = "vtg-chart";
    picture.before(box);
    // Vega keeps the page from zooming, too, only while it is idle.
    box.addEventListener("wheel", (event) => { if (event.ctrlKey || event.metaKey) event.preventDefault(); });
    const room = () => Math.floor(box.clientWidth);
    spec.width = room() || spec.width; // nothing has room in what is folded
    spec.description = picture.alt;
    try {
      const options = { actions: false, renderer: "svg", defaultStyle: false, tooltip: { disableDefaultStyle: true } };
      const { view } = await window.vegaEmbed(box, spec, options);
      figure.classList.add("live");
      box.after(hint(spec));
      let drawn = spec.width; // the view's own width is that of its axes
      new ResizeObserver(() => {
        if (!room() || room() === drawn) return;
        drawn = room();
        view.width(drawn).resize().runAsync();
      }).observe(box);
    } catch (error) {
      box.remove();
      throw error;
    }
  };

  const library = document.createElement("script");
  library.src = (document.documentElement.dataset.content_root || "./") + "_static/npm/vega.js";
  library.onload = () => specs.forEach(exchange);
  document.head.append(library);
})();
