"""How the page looks beyond gradio's theme, in light and dark and at any width."""

STYLESHEET = """
.gradio-container > main { max-width: 1240px !important; margin: 0 auto !important; }
#heading p { margin: 0; max-width: 60rem; opacity: .8; }

#layout {
  display: grid;
  grid-template: "input results" auto "settings results" 1fr / 310px minmax(0, 1fr);
  gap: var(--layout-gap);
}
#layout > * { min-width: 0; }
#input { grid-area: input; }
#results { grid-area: results; }
#settings { grid-area: settings; }
@media (max-width: 860px) {
  #layout { grid-template: "input" "results" "settings" / minmax(0, 1fr); }
}

#status p { margin: 0; font-size: .9rem; }
#status .problem {
  background: color-mix(in srgb, #dc2626 14%, transparent);
  border-left: 4px solid #dc2626;
  padding: .5rem .75rem;
  overflow-wrap: anywhere;
}

/* The labels of gradio lie over the pictures. */
.panel .image-container { padding-top: 28px; box-sizing: border-box; }
.panel img { width: 100% !important; height: 100% !important; object-fit: contain !important; }
#cutout img { background: repeating-conic-gradient(#fff 0 25%, #d6d6d6 0 50%) 0 0 / 20px 20px; }
#examples .grid-wrap { overflow: hidden; min-height: 0; height: auto; padding: 8px; }
#examples .grid-container {
  grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr));
  grid-auto-rows: auto;
  gap: 8px;
}
#settings fieldset .wrap label { flex: 1 0 auto; padding: 6px 7px; justify-content: center; }
"""
