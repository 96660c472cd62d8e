/* Comes before require.js on pages that hold widgets; lets them work from the page's own files, with no kernel and no network. */
(function () {
  "use strict";
  var root = document.documentElement.dataset.content_root || "./";
  // require.js resolves module names (@jupyter-widgets/...) below this folder.
  window.require = { baseUrl: root + "_static/npm" };
  // The theme's icon library would rewrite the icons inside the Play widget's buttons and break them.
  window.FontAwesomeConfig = { observeMutations: false };
  // The widget manager speaks MathJax 2's queue; the page has MathJax 3, which replaces window.MathJax when it is configured
  // and again when it starts. Whatever is put there gets the queue.
  var hub = {
    Queue: function () {
      for (var i = 0; i < arguments.length; i += 1) {
        var call = arguments[i];
        var element = Array.isArray(call) ? call[call.length - 1] : null;
        if (element && window.MathJax.typesetPromise) {
          window.MathJax.typesetPromise([element]);
        }
      }
    },
    Config: function () {},
    Configured: function () {}
  };
  var mathjax = window.MathJax || {};
  mathjax.Hub = hub;
  Object.defineProperty(window, "MathJax", {
    configurable: true,
    get: function () { return mathjax; },
    set: function (value) {
      mathjax = value || {};
      mathjax.Hub = hub;
    }
  });
})();
