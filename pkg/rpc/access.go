package rpc

import (
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// Sets of roles that calls are open to.
var (
	readers   = []pki.Role{pki.RoleViewer, pki.RoleOperator, pki.RoleAdmin, pki.RoleServer}
	operators = []pki.Role{pki.RoleOperator, pki.RoleAdmin}
	admins    = []pki.Role{pki.RoleAdmin}
	servers   = []pki.Role{pki.RoleServer}
	people    = []pki.Role{pki.RoleViewer, pki.RoleOperator, pki.RoleAdmin}
	// anybody includes callers without a certificate; "" stands for them.
	anybody = []pki.Role{"", pki.RoleViewer, pki.RoleOperator, pki.RoleAdmin, pki.RoleServer, pki.RoleWitness}
)

// access is the one table of who may call what, by full method name. What is not in it nobody may call.
var access = map[string][]pki.Role{
	"/holdfast.v1.PoolService/GetPool":                               readers,
	"/holdfast.v1.PoolService/WatchPool":                             readers,
	"/holdfast.v1.PoolService/UpdatePool":                            operators,
	"/holdfast.v1.PoolService/SetPoolHA":                             operators,
	"/holdfast.v1.PoolService/SetFreeze":                             operators,
	"/holdfast.v1.PoolService/PlanLoss":                              readers,
	"/holdfast.v1.PoolService/GetCapacity":                           readers,
	"/holdfast.v1.PoolService/WhoAmI":                                readers,
	"/holdfast.v1.PoolService/WatchFigures":                          readers,
	"/holdfast.v1.ServerService/ListServers":                         readers,
	"/holdfast.v1.ServerService/GetServer":                           readers,
	"/holdfast.v1.ServerService/SetInboundLock":                      operators,
	"/holdfast.v1.ServerService/ConfirmFenced":                       operators,
	"/holdfast.v1.ServerService/UpdateServer":                        admins,
	"/holdfast.v1.ServerService/RemoveServer":                        admins,
	"/holdfast.v1.ServerService/PlanMaintenance":                     readers,
	"/holdfast.v1.ServerService/PlanMaintenanceExit":                 readers,
	"/holdfast.v1.ServerService/EnterMaintenance":                    operators,
	"/holdfast.v1.ServerService/ExitMaintenance":                     operators,
	"/holdfast.v1.ServerService/ShutdownServer":                      operators,
	"/holdfast.v1.VMService/ListVMs":                                 readers,
	"/holdfast.v1.VMService/GetVM":                                   readers,
	"/holdfast.v1.VMService/RegisterVM":                              operators,
	"/holdfast.v1.VMService/UpdateVM":                                operators,
	"/holdfast.v1.VMService/RemoveVM":                                operators,
	"/holdfast.v1.VMService/SetVMHA":                                 operators,
	"/holdfast.v1.VMService/StartVM":                                 operators,
	"/holdfast.v1.VMService/StopVM":                                  operators,
	"/holdfast.v1.VMService/KillVM":                                  operators,
	"/holdfast.v1.VMService/RestartVM":                               operators,
	"/holdfast.v1.VMService/ClearVM":                                 operators,
	"/holdfast.v1.VMService/MigrateVM":                               operators,
	"/holdfast.v1.VMService/RelocateVM":                              operators,
	"/holdfast.v1.VMService/PlanMigration":                           readers,
	"/holdfast.v1.OperationService/ListOperations":                   readers,
	"/holdfast.v1.OperationService/GetOperation":                     readers,
	"/holdfast.v1.OperationService/CancelOperation":                  operators,
	"/holdfast.v1.OperationService/WatchOperation":                   readers,
	"/holdfast.v1.EventService/ListEvents":                           readers,
	"/holdfast.v1.EventService/WatchEvents":                          readers,
	"/holdfast.v1.EventService/ListIncidents":                        readers,
	"/holdfast.v1.EventService/GetIncident":                          readers,
	"/holdfast.v1.IdentityService/CreateLogin":                       admins,
	"/holdfast.v1.IdentityService/RenewCertificate":                  people,
	"/holdfast.v1.IdentityService/RevokeCertificate":                 admins,
	"/holdfast.v1.IdentityService/ListRevocations":                   readers,
	"/holdfast.v1.DrillService/CreateCanary":                         admins,
	"/holdfast.v1.DrillService/GetCanary":                            readers,
	"/holdfast.v1.DrillService/HitCanary":                            admins,
	"/holdfast.v1.DrillService/RemoveCanary":                         admins,
	"/holdfast.v1.MeshService/Ping":                                  servers,
	"/holdfast.v1.MeshService/AskPromise":                            servers,
	"/holdfast.v1.MeshService/AskSilence":                            servers,
	"/holdfast.v1.MeshService/InspectVM":                             servers,
	"/holdfast.v1.MeshService/LookupDomain":                          servers,
	"/holdfast.v1.MeshService/PrepareIncoming":                       servers,
	"/holdfast.v1.MeshService/ConfirmIncoming":                       servers,
	"/holdfast.v1.MeshService/StreamFigures":                         servers,
	"/holdfast.v1.MeshService/Tunnel":                                servers,
	"/holdfast.v1.MeshService/TouchCanary":                           servers,
	"/holdfast.v1.MeshService/GetSavedState":                         servers,
	"/holdfast.v1.MeshService/AdoptLife":                             servers,
	"/holdfast.v1.MeshService/ChangeAuthority":                       servers,
	"/grpc.health.v1.Health/Check":                                   anybody,
	"/grpc.health.v1.Health/List":                                    readers,
	"/grpc.health.v1.Health/Watch":                                   readers,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      readers,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": readers,
}

// Allowed reports whether a caller of role may call method. Join calls are open to strangers: their token is judged
// by the handler.
func Allowed(method string, role pki.Role) bool {
	if strings.HasPrefix(method, "/holdfast.v1.JoinService/") {
		return slices.Contains(anybody, role)
	}
	return slices.Contains(access[method], role)
}

// Permitted lists the methods of the API that role may call, in order; calls that are open to everybody, and those
// of no service of ours, are left out.
func Permitted(role pki.Role) []string {
	var out []string
	for method, roles := range access {
		if strings.HasPrefix(method, "/holdfast.") && slices.Contains(roles, role) {
			out = append(out, method)
		}
	}
	slices.Sort(out)
	return out
}

// neededFor names the roles that may call method.
func neededFor(method string) string {
	roles := access[method]
	if len(roles) == 0 {
		return "nobody may"
	}
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return "role " + strings.Join(names, ", ")
}
