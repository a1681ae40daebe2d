# The same console at 80x24 without colours and glyphs.
scenario evening.scenario
size 80 24
env NO_COLOR=1
env LANG=C
wait * live
wait running 10
frame nocolor-overview
press 3
row db-main running
frame nocolor-vms
press A
wait ACTIONS
frame nocolor-actions
press esc 2
tell power off srv-2
wait lost
frame nocolor-lost
