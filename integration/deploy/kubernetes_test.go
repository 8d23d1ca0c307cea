package deploy

import (
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// manifests decodes kubernetes.yaml strictly: an unknown field, or one that comes twice, is an error.
func manifests(t *testing.T) (deployment appsv1.Deployment, service corev1.Service, config corev1.ConfigMap) {
	t.Helper()
	file, err := os.ReadFile("../../deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	into := map[string]any{"apps/v1 Deployment": &deployment, "v1 Service": &service, "v1 ConfigMap": &config}
	for documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(file))); ; {
		buf := make([]byte, len(file))
		n, err := documents.Read(buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(buf[:n], &kind); err != nil {
			t.Fatal(err)
		}
		to, ok := into[kind.APIVersion+" "+kind.Kind]
		if !ok {
			t.Fatalf("one %+v too many", kind)
		}
		delete(into, kind.APIVersion+" "+kind.Kind)
		if err := yaml.UnmarshalStrict(buf[:n], to); err != nil {
			t.Errorf("%s: %v", kind.Kind, err)
		}
	}
	if len(into) > 0 {
		t.Fatalf("missing: %v", into)
	}
	return deployment, service, config
}

// TestRestricted asks the code that admits pods in clusters.
func TestRestricted(t *testing.T) {
	d, _, _ := manifests(t)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pod := d.Spec.Template
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	for _, c := range pod.Spec.Containers {
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s can write to its root", c.Name)
		}
	}
}

// TestManifests: what the parts say of each other.
func TestManifests(t *testing.T) {
	d, s, config := manifests(t)
	pod := d.Spec.Template
	for key, value := range d.Spec.Selector.MatchLabels {
		if pod.Labels[key] != value || s.Spec.Selector[key] != value {
			t.Errorf("label %s: %q of the pods, %q of the Service, want %q", key, pod.Labels[key], s.Spec.Selector[key], value)
		}
	}
	server := pod.Spec.Containers[0]
	if server.Command[0] != "/huptime" || !slices.Contains(server.Command, "--") {
		t.Errorf("command %q", server.Command)
	}
	ports := []string{}
	for _, p := range server.Ports {
		ports = append(ports, p.Name)
	}
	named := []intstr.IntOrString{s.Spec.Ports[0].TargetPort}
	for _, probe := range []*corev1.Probe{server.StartupProbe, server.ReadinessProbe, server.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			t.Fatal("a probe is missing")
		}
		named = append(named, probe.HTTPGet.Port)
	}
	for _, port := range named {
		if !slices.Contains(ports, port.StrVal) {
			t.Errorf("no port %s", port.String())
		}
	}
	const killAfter = 10
	pre := server.Lifecycle.PreStop.Sleep.Seconds
	if grace := *pod.Spec.TerminationGracePeriodSeconds; pre <= 0 || grace <= pre+killAfter {
		t.Errorf("grace period %d s, preStop %d s", grace, pre)
	}
	for _, c := range pod.Spec.Containers {
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.ConfigMap.Name == config.Name }) {
				t.Errorf("%s mounts %s", c.Name, m.Name)
			}
		}
	}
}
