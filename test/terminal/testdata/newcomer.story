# What somebody new does with the console on the first evening; docs/console.md tells it.
scenario evening.scenario
size 100 26
env COLORTERM=
wait * live
wait running 10
wait N+1 AT RISK
wait MIGRATION
frame open
press 3 /
type wiki
wait 1 of 10
press enter m
wait recommended
frame migrate
press tab enter
wait migrating
frame moving
row wiki running
wait migrate of wiki: done
press esc esc 2 g
wait SERVER
press M
wait PREVIEW
type maintenance of the power supply
wait power supply
frame evacuate
press enter tab enter
wait 1 of 3
wait moving
frame evacuating
wait safe to power off
frame evacuated
press esc
row srv-1 up, maintenance
press M
wait COMES
frame end-maintenance
press tab enter
row srv-1 up
press 3
row db-main srv-1 running
row web-01 srv-1 running
row wiki srv-1 running
press 1
size 120 40
wait N+1
tell power off srv-2
wait FAILOVER srv-2
wait 2 of 3
frame failover
picture failover
press 3
wait [3 VMs
row gpu-box waiting
size 100 26
wait actions
press /
type gpu
wait 1 of 10
press enter e
wait WHY: gpu-box
wait WHERE IT COULD GO
frame why
press esc
tell power on srv-2
row gpu-box running
press esc 6
wait over
press enter
wait recorded by
frame incident
press esc 5
wait [5 Events]
frame events
