"""`kdpm2 ui`: a page in the browser on which one chooses settings by looking.

What stands on the page is read as the command line is (`settings`), and comes to the same plan. So a picture drawn here
is the one that `kdpm2 sample` draws. Each browser window has a session of its own. There is one network, which draws
for one window at a time (`work`). The page loads nothing from elsewhere: its server forbids it (`server`).
"""
