"""The explorer: sliders over the codec, in a notebook or as a page of its own.

state    what is asked (Settings, Upload) and answered (Snapshot)
photos   samples, paths, untrusted uploads
latest   a thread that works on the newest item alone
model    settings in, snapshots out; no widget
parts    tables, captions and pictures of a snapshot, as HTML
widget   controls and display: ``explore("coffee")`` in a notebook
page     Voilà on loopback: ``sketchfusion explore``; its template is page.html.j2, the looks are in explorer.css
"""
