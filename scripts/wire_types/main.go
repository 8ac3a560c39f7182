// SPDX-License-Identifier: Apache-2.0

// Prints the protobuf form of Kubernetes' types, read from the struct tags of their Go module.
//
// For each type, by field number: the JSON name (empty for what JSON inlines), the type, and "*" when
// a zero value means something. Run it from this directory:
//
//	go run . > ../../python/kedge/api/generated/wire.json
package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var roots = []any{
	core.ConfigMap{}, core.Event{}, core.Namespace{}, core.Node{}, core.Pod{}, core.Secret{}, core.Service{},
	core.ServiceAccount{}, core.Binding{}, apps.DaemonSet{}, apps.Deployment{}, apps.ReplicaSet{}, coordination.Lease{},
	authentication.SelfSubjectReview{}, authentication.TokenReview{}, authentication.TokenRequest{},
	authorization.SelfSubjectAccessReview{}, authorization.SelfSubjectRulesReview{},
	authorization.SubjectAccessReview{}, autoscaling.Scale{},
	policy.Eviction{}, meta.DeleteOptions{}, core.Endpoints{}, core.PersistentVolume{}, core.PersistentVolumeClaim{},
	certificatesv1beta1.ClusterTrustBundle{}, discovery.EndpointSlice{}, node.RuntimeClass{}, rbac.ClusterRole{},
	rbac.ClusterRoleBinding{}, rbac.Role{}, rbac.RoleBinding{}, scheduling.PriorityClass{}, storage.CSIDriver{},
	storage.CSINode{}, storage.CSIStorageCapacity{}, storage.StorageClass{}, storage.VolumeAttachment{},
	storage.VolumeAttributesClass{}, core.LimitRange{}, core.PodTemplate{}, core.ResourceQuota{},
	core.ReplicationController{}, apps.ControllerRevision{}, apps.StatefulSet{}, batch.Job{}, batch.CronJob{},
	autoscalingv2.HorizontalPodAutoscaler{}, policy.PodDisruptionBudget{}, networking.Ingress{},
	networking.IngressClass{}, networking.NetworkPolicy{}, certificates.CertificateSigningRequest{},
	authorization.LocalSubjectAccessReview{}, admissionregistration.MutatingWebhookConfiguration{},
	admissionregistration.ValidatingWebhookConfiguration{}, admissionregistration.ValidatingAdmissionPolicy{},
	admissionregistration.ValidatingAdmissionPolicyBinding{},
}

var version = regexp.MustCompile(`^v\d`)

var scalars = map[string]string{
	"resource.Quantity": "quantity", "intstr.IntOrString": "int-or-string", "meta.v1.Time": "time",
	"meta.v1.MicroTime": "time", "meta.v1.FieldsV1": "raw", "runtime.RawExtension": "raw",
}

var messages = map[string]map[string][]string{}

func main() {
	for _, root := range roots {
		visit(reflect.TypeOf(root))
	}
	names := make([]string, 0, len(messages))
	for name := range messages {
		names = append(names, name)
	}
	sort.Strings(names)
	lines := make([]string, 0, len(names))
	for _, name := range names {
		fields, err := json.Marshal(messages[name])
		if err != nil {
			panic(err)
		}
		lines = append(lines, fmt.Sprintf("%q:%s", name, fields))
	}
	fmt.Printf("{\n%s\n}\n", strings.Join(lines, ",\n"))
}

func visit(kind reflect.Type) string {
	name := short(kind)
	if scalar, ok := scalars[name]; ok {
		return scalar
	}
	if _, seen := messages[name]; seen {
		return name
	}
	messages[name] = map[string][]string{}
	for i := range kind.NumField() {
		field := kind.Field(i)
		tag := strings.Split(field.Tag.Get("protobuf"), ",")
		if len(tag) < 2 {
			continue
		}
		jsonName, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if strings.Contains(options, "inline") {
			jsonName = ""
		}
		row := []string{jsonName, describe(field.Type)}
		if field.Type.Kind() == reflect.Pointer {
			row = append(row, "*")
		}
		messages[name][tag[1]] = row
	}
	return name
}

func describe(kind reflect.Type) string {
	switch kind.Kind() {
	case reflect.Pointer:
		return describe(kind.Elem())
	case reflect.Struct:
		return visit(kind)
	case reflect.Slice:
		if kind.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + describe(kind.Elem())
	case reflect.Map:
		if kind.Elem().Kind() == reflect.Slice && kind.Elem().Elem().Kind() == reflect.String {
			return "map[string]strings"
		}
		return "map[string]" + describe(kind.Elem())
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "int"
	case reflect.String:
		return "string"
	}
	panic("no wire form for " + kind.String())
}

// short turns k8s.io/api/core/v1.Pod into core.v1.Pod.
func short(kind reflect.Type) string {
	parts := strings.Split(kind.PkgPath(), "/")
	if last := parts[len(parts)-1]; version.MatchString(last) {
		return parts[len(parts)-2] + "." + last + "." + kind.Name()
	}
	return parts[len(parts)-1] + "." + kind.Name()
}
