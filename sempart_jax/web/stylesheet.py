"""How the page looks beyond gradio's theme, in light and dark and at any width."""

STYLESHEET = """
.gradio-container > main { max-width: 1240px !important; margin: 0 auto !important; }
#heading h1 { font-size: 1.7rem; margin: .2rem 0 .1rem; letter-spacing: -.01em; }
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

#status p { margin: 0; font-size: .9rem; }
#status .problem {
  background: color-mix(in srgb, #dc2626 14%, transparent);
  border-left: 4px solid #dc2626;
  border-radius: 4px;
  padding: .5rem .75rem;
  overflow-wrap: anywhere;
}

/* The labels of gradio lie over the pictures. */
.panel .image-container { padding-top: 28px; box-sizing: border-box; }
.panel img { width: 100% !important; height: 100% !important; object-fit: contain !important; }
#examples .grid-wrap { overflow: hidden; min-height: 0; height: auto; padding: 8px; }
#examples .grid-container {
  grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr));
  grid-auto-rows: auto;
  gap: 8px;
}
#refine .wrap, #invert .wrap, #edges .wrap { gap: 6px; }
#refine .wrap label, #invert .wrap label, #edges .wrap label {
  flex: 1 0 auto; padding: 6px 7px; justify-content: center;
}
#refine .wrap label span, #invert .wrap label span { margin-left: 5px; }

@media (max-width: 860px) {
  #layout { grid-template: "input" "results" "settings" / minmax(0, 1fr); }
}
@media (max-width: 640px) {
  .gradio-container > main { padding: 10px !important; }
  #heading h1 { font-size: 1.35rem; }
}
"""
