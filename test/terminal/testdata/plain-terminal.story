# The same path at 80x24 without colours and glyphs.
scenario evening.scenario
size 80 24
env NO_COLOR=1
env LANG=C
wait * live
wait running 10
wait N+1 AT RISK
wait MIGRATION
frame nocolor-open
press 3 /
type wiki
wait 1 of 10
press enter m
wait recommended
frame nocolor-migrate
press tab enter
wait migrating
frame nocolor-moving
row wiki running
wait migrate of wiki: done
press A
wait ACTIONS
frame nocolor-actions
press esc
gone ACTIONS
press esc 2 g
wait SERVER
press M
wait PREVIEW
type maintenance of the power supply
wait power supply
frame nocolor-evacuate
press enter tab enter
wait 1 of 3
wait moving
frame nocolor-evacuating
wait safe to power off
frame nocolor-evacuated
press esc
row srv-1 up, maintenance
press M
wait COMES
frame nocolor-end-maintenance
press tab enter
row srv-1 up
press 3
row db-main srv-1 running
row web-01 srv-1 running
row wiki srv-1 running
press 1
wait N+1
tell power off srv-2
wait FAILOVER srv-2
wait 2 of 3
frame nocolor-failover
press 3
wait [3 VMs
row gpu-box waiting
press /
type gpu
wait 1 of 10
press enter e
wait WHY: gpu-box
wait WHERE IT COULD GO
frame nocolor-why
press esc
tell power on srv-2
row gpu-box running
press esc 6
wait over
press enter
wait recorded by
frame nocolor-incident
press esc 5
wait [5 Events]
frame nocolor-events
